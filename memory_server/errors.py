"""What can go wrong in the server, said in the words of its domain.

Each class says who is at fault by its branch: `AskedWrongly` the caller, `Busy` the load, `Broken` the server. What a
caller sees of them (status code, reason, details) is decided in one place, `interceptors/errors.py`.
"""

from collections.abc import Callable, Iterable, Sequence

from dgm_core.manifest import Label

_LISTED = 20


class MemoryServerError(Exception):
    """The root of the server's own exceptions. The message says what is wrong and what to do."""


class AskedWrongly(MemoryServerError):
    """The caller asked for something that cannot be: repeating the request will not help."""


class Busy(MemoryServerError):
    """The request is fine, but not now. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Broken(MemoryServerError):
    """The server cannot do what it promised."""


class BadRequest(AskedWrongly):
    """A field of the request is malformed. `field` is its path in the request, for example "header.spec.shape"."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message


class UnknownMemory(AskedWrongly):
    """No memory has this name; the message lists those that exist."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self._name, self._others = name, tuple(known)
        super().__init__(f"there is no memory {name!r}; {_known('memories', self._others)}")

    def told(self, visible: Callable[[str], bool]) -> "UnknownMemory":
        """The same for somebody who may know of some memories only."""
        return UnknownMemory(self._name, filter(visible, self._others))


class UnknownTask(AskedWrongly):
    """The memory has no task of this name; the message lists those that exist."""

    def __init__(self, memory: str, task: str, known: Iterable[str]) -> None:
        super().__init__(f"memory {memory!r} has no task {task!r}; {_known('tasks', known)}")


class UnknownClass(AskedWrongly):
    """No expert in question generates this class; the message lists the classes that can be had.

    Arguments:
        memory: its name.
        label: the class.
        known: the classes of all that was asked for.
        tasks: to which the request was restricted; none: it was not.
        field: of the request that names the class, where there is more than one.
    """

    def __init__(
        self, memory: str, label: Label, known: Iterable[Label], tasks: Sequence[str] = (), field: str = ""
    ) -> None:
        said = f"memory {memory!r} has not learned class {label!r}; {_known('classes', known)}"
        if tasks:
            whose, has = ("its", "has") if len(tasks) == 1 else ("their", "have")
            named = f"task{'s' * (len(tasks) > 1)} {_listed(tasks)}"
            said = f"{named} {has} no class {label!r}; {whose} classes are {_listed(known)}"
        super().__init__(f"{field}: {said}" if field else said)


class UnknownRevision(AskedWrongly):
    """The memory has no such revision; the message gives the ones that exist."""

    def __init__(self, memory: str, revision: int, known: Iterable[int]) -> None:
        super().__init__(f"memory {memory!r} has no revision {revision}; {_known('revisions', known)}")


class MemoryExists(AskedWrongly):
    """The name is taken by a memory of another kind, other options or another data spec."""


class MemoryMismatch(AskedWrongly):
    """The memory exists with another kind or other options than the request expects."""


class TaskExists(AskedWrongly):
    """The memory holds a task of this name that learned other data."""


class TaskFinished(AskedWrongly):
    """The task can no longer be cancelled."""


class TaskUnfinished(AskedWrongly):
    """The task cannot be forgotten now: it is not learned yet, or another one is being learned on top of it."""


class Unauthenticated(AskedWrongly):
    """No valid token came with the call. Whether there was one, and what is wrong with it, is not told apart."""

    def __init__(self) -> None:
        super().__init__("this server asks for a valid token in the metadata, as 'authorization: Bearer TOKEN'")


class PermissionDenied(AskedWrongly):
    """The caller may not do this with this memory. Says the same whether there is such a memory or not."""

    def __init__(self, memory: str) -> None:
        super().__init__(f"your token has no right to do this with memory {memory!r}")


class EmptyMemory(AskedWrongly):
    """Nothing has been learned yet, so there is nothing to sample or classify with."""

    def __init__(self, memory: str) -> None:
        super().__init__(f"memory {memory!r} has learned nothing yet; teach it a task with LearnTask first")


class TaskTooLarge(AskedWrongly):
    """This task alone exceeds the ingest budget."""


class UploadStalled(AskedWrongly):
    """A client stopped sending in the middle of its data, or sends so little that it would hold its place for ever."""


class ServerBusy(Busy):
    """The ingest budget or the queue is full."""


class ClientLimit(Busy):
    """One client holds as much as one client may: others are served meanwhile."""


class SolverRetraining(Busy):
    """The task solver is being made anew, because a task was forgotten; `retry_after` is when it should be there."""

    def __init__(self, memory: str, retry_after: float = 5.0) -> None:
        super().__init__(
            f"the task solver of memory {memory!r} is being trained anew, because a task was forgotten", retry_after
        )


class AuditFailed(Busy):
    """The audit log cannot be written, so that nothing may be done that belongs into it."""

    def __init__(self) -> None:
        super().__init__(
            "the server cannot write its audit log, and does nothing unseen: its operator must free disk space"
        )


class Superseded(Busy):
    """What a stream was reading is gone from under its feet: opened again, it follows or hears why it cannot."""

    def __init__(self, memory: str) -> None:
        super().__init__(
            f"a task of memory {memory!r} was forgotten or its generator retrained just now; open the stream again",
            0.1,
        )


class ShuttingDown(Busy):
    """The server is draining and admits nothing new."""


class MissingKind(Broken):
    """A memory is of a kind that this version does not have, as after a return to an older one."""

    def __init__(self, memory: str, kind: str) -> None:
        super().__init__(
            f"memory {memory!r} is of kind {kind!r}, which this server does not have: run the version that made it, or "
            "delete the memory"
        )


class NoSolver(Broken):
    """The task solver was dropped when a task was forgotten, and training it anew failed."""

    def __init__(self, memory: str) -> None:
        super().__init__(
            f"the task solver of memory {memory!r} could not be trained anew after a task was forgotten (the server's "
            "log says why); the next task that is learned makes it, and so does a restart of the server"
        )


class SleepFailed(Broken):
    """A memory was to consolidate what it holds, and that failed. `error` is the name of what went wrong."""

    def __init__(self, memory: str, error: str) -> None:
        super().__init__(
            f"memory {memory!r} could not sleep ({error}; the server's log says more): it is as it was and "
            "learns on; ask again, or let it try by itself after its next task"
        )


class CannotStart(Broken):
    """The server cannot start: its port, data directory or device is not to be had."""


def _known(things: str, known: Iterable[object]) -> str:
    listed = _listed(known)
    if not listed:
        return f"it has no {things} yet" if things != "memories" else "there are none yet"
    return f"the {things} are {listed}"


def _listed(known: Iterable[object]) -> str:
    names = [str(name) if isinstance(name, int) else repr(name) for name in known]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"
