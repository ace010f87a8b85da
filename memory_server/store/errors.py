"""What can go wrong with the disk. Each error says what is wrong and what to do."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import DatabaseError

from memory_server.errors import AskedWrongly, Broken, CannotStart

_OF_THE_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


class CorruptBlob(Broken):
    """The bytes of a blob are not those that its name promises: the file was damaged or tampered with."""

    def __init__(self, path: object) -> None:
        self.path = path
        super().__init__(f"blob {path} is damaged: its content does not match its name; restore it from a backup")


class LostBlob(CorruptBlob):
    """A blob was damaged or missing when the server started; whatever needs it fails.

    Other memories may need it, too, whose names are not for every caller: the log has them.
    """

    def __init__(self, digest: str) -> None:
        Broken.__init__(
            self,
            f"blob {digest}, which this memory needs, is damaged or missing on the server's disk; its operator "
            "restores the file from a backup and starts the server again, or the task is forgotten that the log names, "
            "or the memory is deleted",
        )


class CorruptCatalog(Broken):
    """The catalog is a database, but what it says cannot be."""


class NewerFormat(Broken):
    """The catalog was written by a newer server."""

    def __init__(self, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(
            f"the catalog has format {found} and this server reads up to {supported}; start a newer memory-server on it"
        )


class NotMigrated(Broken):
    """The catalog was written by an older server and cannot be brought to the present format; it is as it was."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the catalog cannot be brought to the present format: {reason}; restore it from a backup")


class DiskFailed(Broken):
    """The disk is full, fails or may not be written, so that something was not done; all is as it was."""


class MemoryNotMade(DiskFailed):
    """A task could not be admitted, or what its memory stands on could not be stored; nothing was changed."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"nothing could be stored: {reason}; mend the disk or free space on it, and send it again")


class CommitFailed(DiskFailed):
    """A learned task could not be stored; the memory is as it was."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"the task was learned but could not be stored: {reason}; free disk space and send it again")


class SolverNotStored(DiskFailed):
    """A solver that was trained anew could not be stored; the memory is as it was."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"the solver could not be stored: {reason}; free disk space and start the server again")


class NotForgotten(DiskFailed):
    """A task could not be erased; the memory is as it was."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"nothing was forgotten: {reason}; mend the disk or free space on it, and ask again")


class NotDeleted(DiskFailed):
    """A memory could not be deleted; of what it holds, nothing is gone."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"nothing was deleted: {reason}; mend the disk or free space on it, and ask again")


class NotErased(Broken):
    """What was forgotten or deleted can no longer be sampled, but lies on the disk still."""

    def __init__(self, what: str, reason: object) -> None:
        super().__init__(
            f"{what} is gone for everybody, but a file of it is on the disk still: {reason}; mend the disk and start "
            "the server again, which removes it"
        )


class NotRecorded(DiskFailed):
    """What becomes of a task could not be written down; its memory is as it was."""

    def __init__(self, reason: object) -> None:
        super().__init__(
            f"the state of the task could not be stored: {reason}; mend the disk or free space on it, and try again"
        )


class NotImported(DiskFailed):
    """A memory could not be taken in; nothing of it was kept."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"nothing was imported: {reason}; free disk space and send it again")


class BadArchive(AskedWrongly):
    """What was to be imported is no exported memory, or a damaged one; nothing of it was kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this is not a whole exported memory: {reason}; export it again and send that file")


class DataDirError(CannotStart):
    """The data directory cannot be used; the message says why and what to do."""


class WrongKey(DataDirError):
    """The data directory needs another encryption key, or none."""


def of_the_disk(error: Exception) -> bool:
    """Whether a disk is full, fails or may not be written: what lies on it is as it was."""
    if isinstance(error, DatabaseError):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _OF_THE_DISK
    return isinstance(error, OSError)


def reason(error: Exception) -> object:
    """The cause in the words of the system: without a path, without SQL."""
    if isinstance(error, DatabaseError):
        return error.orig
    return error.strerror if isinstance(error, OSError) and error.strerror else error


@contextmanager
def written(failed: Callable[[object], Broken]) -> Iterator[None]:
    """Says in words why the block could not write, and in the log, too: a task is told, but not its operator."""
    try:
        yield
    except (OSError, DatabaseError) as error:
        problem = failed(reason(error))
        structlog.get_logger().error("the disk fails", error=type(problem).__name__, cause=str(reason(error)))
        raise problem from error
