"""TensorBoard curves of what workers report: one run for each task of each memory. The extra [tensorboard]."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tensorboard.summary import Writer

from dgm_core.memory import Progress
from memory_server.learning.messages import Renewal
from memory_server.learning.observer import Observer
from memory_server.learning.status import TaskStatus
from memory_server.secrecy import keep_private
from memory_server.store.records import TaskState

_RUNS = {Renewal.SOLVER: "_solver", Renewal.SLEEP: "_sleep"}
"""The runs of a memory's retrainings and sleeps: no task may be called so."""
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


@dataclass
class _Run:
    """An open run, and what it was given last."""

    writer: Writer
    last: tuple[str, int] = ("", -1)


class Curves(Observer):
    """Writes losses, occupancy of masks and progress by step: what `Progress` holds, and nothing of any example.

    A task that is sent again goes on in its run. The server removes none: that is the operator's to do.

    Arguments:
        directory: of all runs; made with mode 0700 if it is not there, and given it if others may use it.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep_private(directory)
        self._runs: dict[Path, _Run] = {}

    def changed(self, status: TaskStatus) -> None:
        """See `Observer.changed`."""
        path = self._path(status.record.memory, _fit(status.record.task))
        if status.progress is not None:
            self._draw(path, status.progress)
        if status.record.state is TaskState.LEARNED and status.record.quality is not None:
            self._run(path).writer.add_scalar("quality", status.record.quality, status.record.steps)
        if status.record.state.final:
            self._close(path)

    def renewing(self, how: Renewal, memory: str, progress: Progress | None) -> None:
        """See `Observer.renewing`."""
        if progress is not None:
            self._draw(self._path(memory, _RUNS[how]), progress)

    def renewed(self, how: Renewal, memory: str, ended: TaskState, consolidated: int) -> None:  # noqa: ARG002 - no matter
        """See `Observer.renewed`."""
        self._close(self._path(memory, _RUNS[how]))

    def close(self) -> None:
        """Writes what is waiting, and ends."""
        for path in list(self._runs):
            self._close(path)

    def _path(self, memory: str, run: str) -> Path:
        return self._directory / _fit(memory) / run

    def _draw(self, path: Path, progress: Progress) -> None:
        run, now = self._run(path), (progress.phase, progress.step)
        if run.last == now:
            return
        run.last = now
        for name, value in progress.metrics.items():
            run.writer.add_scalar(f"{progress.phase}/{name}", value, progress.step)
        run.writer.add_scalar(f"{progress.phase}/fraction", progress.fraction, progress.step)

    def _run(self, path: Path) -> _Run:
        if path not in self._runs:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._runs[path] = _Run(Writer(str(path)))
        return self._runs[path]

    def _close(self, path: Path) -> None:
        run = self._runs.pop(path, None)
        if run is not None:
            with suppress(OSError):  # a full disk costs curves and nothing else
                run.writer.close()


def _fit(name: str) -> str:
    """A name as one part of a path; names that the server accepts are that already."""
    return _UNFIT.sub("_", name).lstrip("._") or "_"
