"""How learning is shown: one line of plain text, rewritten in place."""

import sys
from typing import Protocol, TextIO, TypeVar

from memory_client.types import Sleep, Task, TaskProgress, TaskState

Listener = TypeVar("Listener", bound="ProgressListener | TransferListener | SleepListener")


class ProgressListener(Protocol):
    """What `learn_task(progress=)` takes to show progress in another way."""

    def sent(self, rows: int, nbytes: int) -> None:
        """So many rows, and bytes of x, have been handed to the connection so far."""

    def task(self, task: Task) -> None:
        """The task was seen in this state, or with this progress."""

    def close(self) -> None:
        """Nothing more will come; may be called more than once."""


class SleepListener(Protocol):
    """What `sleep(progress=)` takes to show progress in another way."""

    def sleep(self, sleep: Sleep) -> None:
        """The sleep was seen like this."""

    def close(self) -> None:
        """Nothing more will come; may be called more than once."""


class TransferListener(Protocol):
    """What `export(progress=)` and `import_file(progress=)` take to show progress in another way."""

    def moved(self, nbytes: int, total: int) -> None:
        """So many bytes of the file have been written or handed to the connection so far."""

    def close(self) -> None:
        """Nothing more will come; may be called more than once."""


class Quiet:
    """Shows nothing."""

    def moved(self, nbytes: int, total: int) -> None:
        """Does nothing."""

    def sent(self, rows: int, nbytes: int) -> None:
        """Does nothing."""

    def task(self, task: Task) -> None:
        """Does nothing."""

    def sleep(self, sleep: Sleep) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class TextProgress:
    """One line on a text stream, rewritten with carriage returns; `close` ends the line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._width = 0

    def sent(self, rows: int, nbytes: int) -> None:
        """Shows what has been uploaded."""
        self._show(f"uploading: {rows} examples, {nbytes / 1e6:.1f} MB")

    def task(self, task: Task) -> None:
        """Shows the state of the task."""
        self._show(describe(task))

    def sleep(self, sleep: Sleep) -> None:
        """Shows how far a memory is with its sleep."""
        self._show(describe_sleep(sleep))

    def moved(self, nbytes: int, total: int) -> None:
        """Shows how much of a file has been moved."""
        self._show(f"{nbytes / 1e6:.1f} of {total / 1e6:.1f} MB")

    def close(self) -> None:
        """Ends the line, if one was begun."""
        if self._width:
            self._file.write("\n")
            self._file.flush()
            self._width = 0

    def _show(self, line: str) -> None:
        self._file.write(f"\r{line:<{self._width}}")
        self._file.flush()
        self._width = len(line)


def listener(progress: bool | Listener | None) -> "Listener | TextProgress | Quiet":
    """What `progress=` stands for: None shows text if the error stream is a terminal, True always, False never."""
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    if isinstance(progress, bool):
        return TextProgress(sys.stderr) if progress else Quiet()
    return progress


def describe(task: Task) -> str:
    """One line on the state of a task, such as "t0: LEARNING generator 40 %, 12 s left"."""
    return f"{task.name}: {task.state}{_detail(task)}"


def describe_sleep(sleep: Sleep) -> str:
    """One line on a sleep, such as "asleep, generator 40 %, 12 s left"."""
    return _place(sleep) or ("asleep" if sleep.progress is None else f"asleep, {_course(sleep.progress)}")


def _detail(task: Task) -> str:
    if task.state is TaskState.LEARNING and task.progress is not None:
        step = task.progress.resumed_from_step
        return f" {_course(task.progress)}" + (f", resumed from step {step}" if step else "")
    if task.state is TaskState.LEARNED:
        quality = "" if task.quality is None else f", quality {task.quality:.3f}"
        return f" in {task.learn_seconds:.1f} s{quality}"
    why = waiting(task) or task.error
    return f", {why}" if why else ""


def waiting(task: Task) -> str:
    """What a QUEUED task waits for, where it stands and for how long; empty for any other."""
    return _place(task) if task.state is TaskState.QUEUED else ""


def _place(waiting: Task | Sleep) -> str:
    place = "" if waiting.queue_position is None else f"number {waiting.queue_position} in the queue"
    start = "" if waiting.starts_in is None else f"starts in about {waiting.starts_in:.0f} s"
    return ", ".join(filter(None, (waiting.waiting_for, place, start)))


def _course(progress: TaskProgress) -> str:
    left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
    return f"{progress.phase} {progress.fraction:.0%}{left}"
