"""The library of bases: those that are shipped, and those that lie in a directory of the operator's."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from dgm_core.blobs import digest as digest_of
from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.style.base import Base

SUFFIX = ".safetensors"
_SHIPPED = Path(__file__).parent / "shipped"
_FEWEST_DIGITS = 8
_REMEMBERED = 64
_CODE = (b"\x80", b"PK")
"""How a pickle begins, and an archive that holds one."""


@dataclass(frozen=True)
class BaseFile:
    """What lies in a library under one file name.

    Arguments:
        path: of the file.
        shipped: whether it came with this package.
        nbytes: its size.
        name: of the base; of the file where that is none.
        digest: SHA-256 of the content, which is the base's identity.
        shape: (C, H, W) of the images that it generates; empty where it is no base.
        problem: why it is no base; empty if it is one.
    """

    path: Path
    shipped: bool
    nbytes: int
    name: str
    digest: str = ""
    shape: tuple[int, ...] = ()
    problem: str = ""

    def broken(self, problem: str) -> Self:
        """The same file, of which it turned out that it cannot be used."""
        return replace(self, problem=problem)

    @property
    def whose(self) -> str:
        """Where it comes from, for people."""
        return "shipped" if self.shipped else self.path.name

    def read(self) -> Base:
        """The base itself. Raises ValueError if the file is none, or no longer is what it was."""
        base = read_base(self.path)
        if base.digest != self.digest:
            raise ValueError(f"{self.path.name} was changed just now; try again")
        return base


class Library:
    """Bases by name and by digest.

    Arguments:
        directory: of more bases than the shipped ones; it need not exist.
        own: the base that a memory stands on: it answers first, whatever has become of its file since.
    """

    def __init__(self, directory: Path | None = None, own: Base | None = None) -> None:
        self.directory = directory
        self.own = own

    def __iter__(self) -> Iterator[BaseFile]:
        """All files, the shipped ones first; those that are no base say why."""
        yield from _within(_SHIPPED, shipped=True)
        if self.directory is not None:
            yield from _within(self.directory, shipped=False)

    def ahead(self, blob: bytes) -> Self:
        """The same library for a memory that stands on a base already. Raises ValueError if the bytes are no base."""
        return type(self)(self.directory, Base.unpack(blob))

    def find(self, name: str, spec: DataSpec) -> tuple[str, bytes]:
        """See `Bases.find`."""
        base = self._chosen(name, spec)
        base.require_fit(spec)
        return base.digest, base.blob

    def file(self, name: str) -> BaseFile:
        """The file of a base that is named, or identified by its digest or the first digits of that.

        Raises:
            CannotLearn: none answers to this name, several do, or it is a file that is no base.
        """
        found = [file for file in self if _answers(name, file.name, file.digest)]
        sound = {file.digest: file for file in found if not file.problem}
        if len(sound) > 1:
            several = " and ".join(f"{digest[:12]} ({file.whose})" for digest, file in sound.items())
            raise CannotLearn("options.base", f"several bases answer to {name!r}: {several}; name one by its digest")
        if found and not sound:
            raise CannotLearn("options.base", f"the base {name!r} cannot be used: {found[0].problem}")
        if not found:
            raise CannotLearn("options.base", f"there is no base {name!r}; the bases are {self._known()}")
        return next(iter(sound.values()))

    def _chosen(self, name: str, spec: DataSpec) -> Base:
        if self.own is not None and (not name or _answers(name, self.own.name, self.own.digest)):
            return self.own
        file = self.file(name) if name else self._fitting(spec)
        try:
            return file.read()
        except (OSError, ValueError) as error:
            raise CannotLearn("options.base", f"the base {name!r} cannot be used: {error}") from error

    def _fitting(self, spec: DataSpec) -> BaseFile:
        for file in _within(_SHIPPED, shipped=True):
            if spec.is_image and file.shape[:1] == spec.shape[:1]:
                return file
        raise CannotLearn(
            "options.base",
            f"no shipped base generates x of shape {spec.shape}; the bases are {self._known()}. "
            "Train one with `memory-server base train` and name it",
        )

    def _known(self) -> str:
        return ", ".join(f"{file.name} {file.shape}" for file in self if not file.problem) or "none"


def read_base(path: Path) -> Base:
    """The base in a file, whose content is its identity.

    Raises:
        ValueError: it is none, or was damaged; the message names the file.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        base = Base.unpack(content)
        base.require_fit(DataSpec(base.design.shape, "uint8"))
        base.require_numbers()
    except Exception as error:  # of any type: a file that somebody has changed fails anywhere, in any way
        what = "a pickle, which may hold code and is never opened here" if content.startswith(_CODE) else str(error)
        raise ValueError(
            f"{path.name} is no base: {what}; make it again by `memory-server base train` or `import`, or remove it"
        ) from error
    if base.digest != digest_of(content):
        raise ValueError(f"{path.name} holds more than a base does; make it again by `memory-server base import`")
    return base


def _within(folder: Path, *, shipped: bool) -> Iterator[BaseFile]:
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            status = path.stat()
            yield replace(_described(path, status.st_mtime_ns, status.st_size), shipped=shipped)
        except OSError as error:
            yield BaseFile(path, shipped, 0, path.stem, problem=f"{path.name} cannot be read ({error.strerror})")


@lru_cache(_REMEMBERED)
def _described(path: Path, modified: int, nbytes: int) -> BaseFile:  # noqa: ARG001 - a file that changed is read anew
    try:
        base = read_base(path)
    except ValueError as error:
        return BaseFile(path, False, nbytes, path.stem, problem=str(error))
    return BaseFile(path, False, nbytes, base.name, base.digest, base.design.shape)


def _answers(wanted: str, name: str, digest: str) -> bool:
    return wanted == name or (len(wanted) >= _FEWEST_DIGITS and digest.startswith(wanted))


SHIPPED = Library()
