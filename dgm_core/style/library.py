"""The library of bases: those that are shipped, and those that lie in a directory of the operator's."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dgm_core.memory import CannotLearn, DataSpec
from dgm_core.style.base import Base

SUFFIX = ".safetensors"
_SHIPPED = Path(__file__).parent / "shipped"
_FEWEST_DIGITS = 8


class Library:
    """Bases by name and by digest.

    Arguments:
        directory: of more bases than the shipped ones; it need not exist.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory

    def __iter__(self) -> Iterator[Base]:
        """All bases, the shipped ones first. Raises ValueError for a file that is none, which the message names."""
        yield from _within(_SHIPPED)
        if self.directory is not None:
            yield from _within(self.directory)

    def find(self, name: str, spec: DataSpec) -> tuple[str, bytes]:
        """See `Bases.find`."""
        base = self._named(name) if name else self._fitting(spec)
        base.require_fit(spec)
        return base.digest, base.blob

    def _named(self, name: str) -> Base:
        for base in self:
            if name == base.name or (len(name) >= _FEWEST_DIGITS and base.digest.startswith(name)):
                return base
        raise CannotLearn("options.base", f"there is no base {name!r}; the bases are {self._known()}")

    def _fitting(self, spec: DataSpec) -> Base:
        for base in _within(_SHIPPED):
            if spec.is_image and base.design.shape[0] == spec.shape[0]:
                return base
        raise CannotLearn(
            "options.base",
            f"no shipped base generates x of shape {spec.shape}; the bases are {self._known()}. "
            "Train one with `memory-server base train` and name it",
        )

    def _known(self) -> str:
        return ", ".join(f"{base.name} {base.design.shape}" for base in self) or "none"


def _within(folder: Path) -> Iterator[Base]:
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        yield _read(path, path.stat().st_mtime_ns)


@cache
def _read(path: Path, modified: int) -> Base:  # noqa: ARG001 - a file that changed is read anew
    try:
        return Base.unpack(path.read_bytes())
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is no base: {error}; import or train it again, or remove it") from error


SHIPPED = Library()
