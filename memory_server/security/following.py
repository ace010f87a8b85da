"""Files that an operator may replace while the server runs."""

import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from memory_server.errors import CannotStart
from memory_server.secrecy import exposed, named, remedy

T = TypeVar("T")

Signature = tuple[tuple[int, int, int], ...]

_UNTIL_MENDED = (
    "what was revoked or replaced since is still good, until the files are whole and readable for the server's user,"
)


class Following(Generic[T]):
    """What files say now. Safe to use from any thread.

    Whoever asks gets what is there then: files that were replaced, or changed in content, owner or mode, are read
    again. Looking takes microseconds. Files that make no sense, cannot be read or are gone are reported in the log
    once, and what was read before stays in force: a slip of the operator's must not lock everybody out.

    Arguments:
        paths: the files.
        read: makes sense of them.

    Raises:
        CannotStart: they make none at the begin.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], T]) -> None:
        self._paths = paths
        self._read = read
        self._guard = threading.Lock()
        self._signature = self._look()
        self._value = read()

    @property
    def value(self) -> T:
        """What the files say, or said when they last made sense."""
        with self._guard:
            signature = self._look()
            if signature != self._signature:
                self._signature = signature
                self._read_again()
            return self._value

    def reread(self) -> None:
        """Reads the files whether they have changed or not."""
        with self._guard:
            self._signature = self._look()
            self._read_again()

    def _read_again(self) -> None:
        names = [str(path) for path in self._paths]
        try:
            self._value = self._read()
        except CannotStart as error:
            structlog.get_logger().error(
                "kept what was read before", files=names, reason=str(error), remedy=f"{_UNTIL_MENDED} {os.geteuid()}"
            )
        else:
            structlog.get_logger().info("read again", files=names)

    def _look(self) -> Signature:
        return tuple(map(_signature, self._paths))


def private(path: Path, option: str, advice: str = "name a file that the server may read") -> bytes:
    """The content of a file with secrets.

    Arguments:
        option: names it, for errors.
        advice: what to do where it cannot be read.

    Raises:
        CannotStart: it cannot be read, or is `exposed`.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise CannotStart(f"{option} {path}: this is no file")
            if exposed(found):
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise CannotStart(f"{option} {path}: its mode is {mode}, so others may use it; {remedy(path, found)}")
            return file.read()
    except OSError as error:
        raise CannotStart(f"{option} {named(path)}: {error.strerror}; {advice}") from error


def public(path: Path, option: str) -> bytes:
    """The content of a file without secrets; as `private`, whoever may read it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CannotStart(f"{option} {path}: {error.strerror}; name a file that the server may read") from error


def _signature(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_ctime_ns, found.st_size  # the time of a change of owner or mode, too
