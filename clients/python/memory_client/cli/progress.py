"""Learning as bars on a terminal: the upload, then the task."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from memory_client.progress import describe, describe_sleep
from memory_client.types import Sleep, Task, TaskState


class Bars:
    """Shows an upload, a task or a file on a console; a listener for `progress=` of any method."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(TextColumn("{task.description}", markup=False), BarColumn(), console=console)
        self._upload: TaskID | None = None
        self._learning: TaskID | None = None
        self._file: TaskID | None = None

    def sent(self, rows: int, nbytes: int) -> None:
        """Shows how much has been uploaded; its end is not known before it comes."""
        if self._upload is None:
            self._bars.start()
            self._upload = self._bars.add_task("", total=None)
        self._bars.update(self._upload, description=f"uploading: {rows} examples, {nbytes / 1e6:.1f} MB")

    def task(self, task: Task) -> None:
        """Shows the state of the task and how far it has come."""
        if self._learning is None:
            self._bars.start()
            self._learning = self._bars.add_task("", total=1.0)
        self._bars.update(self._learning, description=describe(task), completed=_fraction(task))

    def sleep(self, sleep: Sleep) -> None:
        """Shows how far a memory is with its sleep."""
        if self._learning is None:
            self._bars.start()
            self._learning = self._bars.add_task("", total=1.0)
        fraction = sleep.progress.fraction if sleep.progress else 0.0
        self._bars.update(self._learning, description=describe_sleep(sleep), completed=fraction)

    def moved(self, nbytes: int, total: int) -> None:
        """Shows how much of a file has been moved."""
        if self._file is None:
            self._bars.start()
            self._file = self._bars.add_task("")
        text = f"{nbytes / 1e6:.1f} of {total / 1e6:.1f} MB"
        self._bars.update(self._file, description=text, completed=nbytes, total=total)

    def close(self) -> None:
        """Leaves the last state on the screen; what comes after begins below it."""
        if self._upload is not None:
            self._bars.update(self._upload, total=1.0, completed=1.0)
        self._bars.stop()
        self._upload = self._learning = None


def _fraction(task: Task) -> float:
    if task.state in (TaskState.COMMITTING, TaskState.LEARNED):
        return 1.0
    return task.progress.fraction if task.progress else 0.0
