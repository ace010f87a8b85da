"""The library of bases: those that are shipped, and those that lie in a directory of the operator's.

What a file must hold is on record: for the shipped ones here, for others in the file itself.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from dgm_core.blobs import digest as digest_of
from dgm_core.blobs import unsealed
from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.style.base import Base, Design

SHIPPED_DIGESTS = {
    "cifar100-colour": "29caf560b524548358b626a92428cab4ff8df1dd3c0ab43016192f9e439d4866",
    "cifar100-grey": "35360411638762110084f8d59d2996f7e1bffcd9f355f08b1788237dfb066ff0",
}
"""Name of a shipped base -> SHA-256 of its file, which is the base's digest."""
SUFFIX = ".safetensors"
LARGEST = 2**30
"""Bytes that the file of a base may have."""
_SHIPPED = Path(__file__).parent / "shipped"
_FEWEST_DIGITS = 8
_REMEMBERED = 64
_CODE = (b"\x80", b"PK")
"""How a pickle begins, and an archive that holds one."""
_REMEDY = "train or import it anew (`memory-server base train`, `import`), restore it, or remove it"


@dataclass(frozen=True)
class BaseFile:
    """What lies in a library under one file name.

    Arguments:
        path: of the file.
        shipped: whether it came with this package.
        nbytes: its size.
        name: of the base; of the file where that is none.
        digest: of the base, which is its identity; empty where it is none.
        design: of the base; None where it is none.
        problem: why it is no base; empty if it is one.
    """

    path: Path
    shipped: bool
    nbytes: int
    name: str
    digest: str = ""
    design: Design | None = None
    problem: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of the images that it generates; empty where it is no base."""
        return self.design.shape if self.design else ()

    def broken(self, problem: str) -> Self:
        """The same file, of which it turned out that it cannot be used."""
        return replace(self, problem=problem)

    @property
    def whose(self) -> str:
        """Where it comes from, for people."""
        return "shipped" if self.shipped else self.path.name

    def read(self) -> Base:
        """The base itself. Raises ValueError if the file is none, or no longer is what it was."""
        base = read_base(self.path, shipped=self.shipped)
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
        yield from _shipped()
        if self.directory is not None:
            yield from (_found(path, shipped=False) for path in sorted(self.directory.glob(f"*{SUFFIX}")))

    def ahead(self, blob: bytes) -> Self:
        """The same library for a memory that stands on a base already. Raises ValueError if the bytes are no base."""
        return type(self)(self.directory, Base.unpack(blob))

    def find(self, name: str, spec: DataSpec) -> tuple[str, bytes]:
        """See `Bases.find`."""
        base = self._chosen(name, spec)
        try:
            base.require_fit(spec)
        except CannotLearn as error:
            others = "" if base is self.own else self._fitting(spec)
            raise CannotLearn(error.field, f"{error}{others}") from error
        return base.digest, base.blob

    def file(self, name: str) -> BaseFile:
        """The file of a base that is named, by itself or by its file, or identified by its digest or digits of that.

        Raises:
            CannotLearn: none answers to this name, several do, or one that does is a file that is no base.
        """
        found = {file.digest: file for file in self if name == file.path.stem or _answers(name, file.name, file.digest)}
        if not found:
            raise CannotLearn("options.base", f"there is no base {name!r}; the bases are {self._known()}")
        if broken := found.get(""):
            raise CannotLearn("options.base", f"the base {name!r} cannot be used: {broken.problem}")
        if len(found) > 1:
            several = " and ".join(f"{digest[:12]} ({file.whose})" for digest, file in found.items())
            raise CannotLearn("options.base", f"several bases answer to {name!r}: {several}; name one by its digest")
        return next(iter(found.values()))

    def _chosen(self, name: str, spec: DataSpec) -> Base:
        if self.own is not None and (not name or _answers(name, self.own.name, self.own.digest)):
            return self.own
        file = self.file(name) if name else self._by_channels(spec)
        try:
            return file.read()
        except (OSError, ValueError) as error:
            raise CannotLearn("options.base", f"the base {file.name!r} cannot be used: {error}") from error

    def _by_channels(self, spec: DataSpec) -> BaseFile:
        """The shipped base that has the channels of such data; where none has, one that is broken could."""
        for file in sorted(_shipped(), key=lambda file: bool(file.problem)):
            if file.problem:
                raise CannotLearn("options.base", f"the shipped base {file.name!r} cannot be used: {file.problem}")
            if file.design and file.design.takes(spec):
                return file
        raise CannotLearn(
            "options.base", f"no shipped base generates x of shape {spec.shape}; the bases are {self._known()}"
        )

    def _fitting(self, spec: DataSpec) -> str:
        """What to name instead, as the end of a sentence."""
        fitting = _named(file for file in self if file.design and file.design.fits(spec))
        return f"; or name one that fits: {fitting}" if fitting else ""

    def _known(self) -> str:
        return _named(file for file in self if not file.problem) or "none"


def read_base(path: Path, *, shipped: bool = False) -> Base:
    """The base in a file, if that holds what is on record for it.

    Arguments:
        shipped: whether it is a file of this package, and not a copy of one.

    Raises:
        ValueError: it is none, or was changed; the message names the file, and what it holds and should hold.
        OSError: it cannot be read.
    """
    content = _content(path)
    if shipped:
        _require_as_shipped(path, content)
    try:
        blob, recorded = unsealed(content)
    except ValueError as error:
        what = "a pickle, which may hold code and is never opened here" if content.startswith(_CODE) else str(error)
        raise _no_base(path, what) from error
    held = digest_of(blob)
    _require_as_recorded(path, held, recorded)
    base = _base(path, blob)
    if base.digest != held:
        raise _no_base(path, "it holds more than a base does")
    return base


def _content(path: Path) -> bytes:
    with open(path, "rb", opener=_unblocked) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _no_base(path, "it is no regular file")
        if status.st_size > LARGEST:
            raise _no_base(path, f"it has {status.st_size} bytes, and a base at most {LARGEST}")
        return file.read()


def _unblocked(path: str, flags: int) -> int:
    """Opens without waiting, as for a pipe that nobody writes into."""
    return os.open(path, flags | os.O_NONBLOCK)


def _require_as_shipped(path: Path, content: bytes) -> None:
    ships, held = SHIPPED_DIGESTS[path.stem], digest_of(content)
    if held != ships:
        raise ValueError(f"{path.name}: the file holds {held}, this version ships {ships}: reinstall the package")


def _require_as_recorded(path: Path, held: str, recorded: str) -> None:
    """The shipped files record no digest, nor do copies of them."""
    if not recorded and held not in SHIPPED_DIGESTS.values():
        shipped = " and ".join(SHIPPED_DIGESTS.values())
        raise ValueError(
            f"{path.name} holds {held} and records no digest, as only the shipped bases do, {shipped}: {_REMEDY}"
        )
    if recorded and held != recorded:
        raise ValueError(f"{path.name} says {recorded} and holds {held}: the file was changed; {_REMEDY}")


def _base(path: Path, blob: bytes) -> Base:
    try:
        base = Base.unpack(blob)
    except ValueError as error:
        raise _no_base(path, str(error)) from error
    try:
        why = base.misfit(DataSpec(base.design.shape, "uint8"))
    except CannotLearn as error:
        why = str(error)
    except Exception:  # of any type: whoever wrote the file may have put anything into its design
        why = "no networks can be built by its design"
    if why:
        raise _no_base(path, why)
    return base


def _no_base(path: Path, what: str) -> ValueError:
    return ValueError(f"{path.name} is no base: {what}; {_REMEDY}")


def _shipped() -> Iterator[BaseFile]:
    return (_found(_SHIPPED / f"{name}{SUFFIX}", shipped=True) for name in SHIPPED_DIGESTS)


def _found(path: Path, *, shipped: bool) -> BaseFile:
    try:
        status = path.stat()
        return _described(path, status.st_mtime_ns, status.st_size, shipped)
    except OSError as error:
        return BaseFile(path, shipped, 0, path.stem, problem=f"{path.name} cannot be read ({error.strerror})")


@lru_cache(_REMEMBERED)
def _described(path: Path, modified: int, nbytes: int, shipped: bool) -> BaseFile:  # noqa: ARG001 - a file that changed is read anew
    try:
        base = read_base(path, shipped=shipped)
    except ValueError as error:
        return BaseFile(path, shipped, nbytes, path.stem, problem=str(error))
    return BaseFile(path, shipped, nbytes, base.name, base.digest, base.design)


def _named(files: Iterable[BaseFile]) -> str:
    return ", ".join(f"{file.name} {file.shape}" for file in files)


def _answers(wanted: str, name: str, digest: str) -> bool:
    return wanted == name or (len(wanted) >= _FEWEST_DIGITS and digest.startswith(wanted))


SHIPPED = Library()
