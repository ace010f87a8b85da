"""Why a task was not learned, besides what the memory itself raises."""

import signal
from collections.abc import Sequence
from typing import Self

from dgm_core.errors import CannotSleep, TrainingDiverged
from memory_server.errors import Broken, MemoryServerError
from memory_server.faults import frames_of
from memory_server.store.catalog import INTERRUPTED

_CAUSES = {
    signal.SIGKILL: "most likely the machine ran out of memory: send fewer rows or give the server more memory",
    signal.SIGSEGV: "a library crashed: report it with the server's log",
    signal.SIGABRT: "a library gave up: report it with the server's log",
    signal.SIGBUS: "memory was lost while in use: check the machine's memory and shared memory limits",
}

_FORESEEN = MemoryServerError, CannotSleep, TrainingDiverged


class WorkerDied(Broken):
    """The worker process ended without an answer. The memory is as it was.

    Arguments:
        status: as `subprocess` gives it: an exit status, or minus the number of a signal.
    """

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"the worker process {_how(status)}; the memory is as it was, send the task again")


class OutOfMemory(Broken):
    """Learning needed more memory than there is."""

    def __init__(
        self, cause: str = "learning ran out of memory; send fewer rows, or give the server or its device more memory"
    ) -> None:
        super().__init__(cause)


class WorkerTooLarge(OutOfMemory):
    """The worker needed more memory than the operator grants it. `bound` is in bytes."""

    def __init__(self, bound: int) -> None:
        super().__init__(
            f"learning needed more than the {bound} bytes of memory that a worker may fill; nothing was kept: send "
            "fewer rows, or start the server with a larger --worker-memory-bytes or fewer --learners"
        )


class TaskTimedOut(Broken):
    """Learning took longer than the operator grants a task."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"learning took longer than the {seconds:g} s that a task may take; nothing was kept: send it again with "
            "fewer steps or seconds, or start the server with a larger --task-seconds-limit"
        )


class WorkerSilent(Broken):
    """The worker hangs: it gave no sign of life."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the worker process gave no sign of life for {seconds:g} s and was ended; the memory is as it was, send "
            "the task again"
        )


class Interrupted(Broken):
    """The server stops, and the training was put down where it was."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTED)


class LearningFailed(Broken):
    """Learning failed in a way that nobody foresaw. What went wrong is told without its words: they may hold data.

    Arguments:
        kind: the class of what went wrong.
        frames: where, as `frames_of` has it; for the log.
    """

    def __init__(self, kind: str, frames: Sequence[str]) -> None:
        self.kind, self.frames = kind, list(frames)
        super().__init__(
            f"learning failed with {kind}, which nobody foresaw; nothing was kept, report this to the server's "
            "operator, whose log has the place"
        )

    @classmethod
    def of(cls, error: Exception) -> Self:
        """What it is that went wrong."""
        return cls(type(error).__name__, frames_of(error))


def logged(error: Exception) -> dict[str, object]:
    """What the log has of an exception: of those that are foreseen what they say, of any other class and frames."""
    if isinstance(error, _FORESEEN) and not isinstance(error, LearningFailed):
        return {"error": repr(error)}
    failed = error if isinstance(error, LearningFailed) else LearningFailed.of(error)
    return {"error": failed.kind, "frames": failed.frames}


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status} (see the server's log)"
    try:
        number = signal.Signals(-status)
    except ValueError:
        return f"was killed by signal {-status}"
    cause = _CAUSES.get(number)
    return f"was killed by {number.name}" + (f" ({cause})" if cause else "")
