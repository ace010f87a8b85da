"""Errors of the store. Each says what is wrong and what to do; those about a name carry the names that are known."""

from collections.abc import Iterable

LISTED = 20
"""How many known names a message lists before it only counts the rest."""


def listing(names: Iterable[object]) -> str:
    """Names for a message: "a, b and 7 more", or "none yet"."""
    known = [str(name) for name in names]
    if not known:
        return "none yet"
    rest = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return ", ".join(known[:LISTED]) + rest


class UnknownMemory(LookupError):
    """No memory has that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(f"there is no memory {name!r}; the memories are: {listing(self.known)}")


class UnknownTask(LookupError):
    """The memory has no task of that name."""

    def __init__(self, memory: str, task: str, known: Iterable[str]) -> None:
        self.memory, self.task, self.known = memory, task, tuple(known)
        super().__init__(f"memory {memory!r} has no task {task!r}; its tasks are: {listing(self.known)}")


class UnknownRevision(LookupError):
    """The memory has no such revision."""

    def __init__(self, memory: str, revision: int, known: Iterable[int]) -> None:
        self.memory, self.revision, self.known = memory, revision, tuple(known)
        super().__init__(f"memory {memory!r} has no revision {revision}; its revisions are: {listing(self.known)}")


class MemoryExists(ValueError):
    """The name is taken."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"a memory {name!r} is there already; choose another name or delete that one first")


class TaskExists(ValueError):
    """The memory has a task of that name, learned or being learned, with other data."""

    def __init__(self, memory: str, task: str) -> None:
        self.memory, self.task = memory, task
        super().__init__(f"memory {memory!r} has a task {task!r} with other data; choose another task name")


class CorruptBlob(RuntimeError):
    """The bytes of a blob are not those that its name promises: the file was damaged or tampered with."""

    def __init__(self, path: object) -> None:
        super().__init__(f"blob {path} is damaged: its content does not match its name; restore it from a backup")


class NewerFormat(RuntimeError):
    """The catalog was written by a newer server."""

    def __init__(self, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(
            f"the catalog has format {found} and this server reads up to {supported}; start a newer memory-server on it"
        )


class CommitFailed(RuntimeError):
    """A learned task could not be stored; the memory is as it was."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"the task was learned but could not be stored: {reason}; free disk space and send it again")


class DataDirError(RuntimeError):
    """The data directory cannot be used; the message says why and what to do."""
