"""Why a task was not learned, besides what the memory itself raises."""

import signal

from memory_server.errors import Broken
from memory_server.store.catalog import INTERRUPTED

_CAUSES = {
    signal.SIGKILL: "most likely the machine ran out of memory: send fewer rows or give the server more memory",
    signal.SIGSEGV: "a library crashed: report it with the server's log",
    signal.SIGABRT: "a library gave up: report it with the server's log",
    signal.SIGBUS: "memory was lost while in use: check the machine's memory and shared memory limits",
}


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
    """Learning failed in a way that nobody foresaw."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(
            f"learning failed with {kind}: {message}; nothing was kept, report this to the server's operator"
        )


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status} (see the server's log)"
    try:
        number = signal.Signals(-status)
    except ValueError:
        return f"was killed by signal {-status}"
    cause = _CAUSES.get(number)
    return f"was killed by {number.name}" + (f" ({cause})" if cause else "")
