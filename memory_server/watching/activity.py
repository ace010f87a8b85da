"""What learning does now: which tasks wait and run, and when each of those that run last moved."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from dgm_core.memory import Progress
from memory_server.learning.messages import Renewal
from memory_server.learning.observer import Observer
from memory_server.learning.status import TaskStatus
from memory_server.store.records import TaskState

Clock = Callable[[], float]
"""Seconds from any origin, never going back."""

Key = tuple[str, str]
"""(memory, task); the task of a renewal is empty, which no task's name is."""


@dataclass(frozen=True)
class Run:
    """A task, the retraining of a solver, or a sleep, that a worker is busy with or that is being committed.

    Arguments:
        place: the lowest number that no other run had when it started: below the number of learners.
        moved: when it last got further, by the clock.
        progress: the newest that is known.
    """

    place: int
    moved: float
    progress: Progress | None = None


class Activity(Observer):
    """Told on the event loop, asked from any thread.

    Arguments:
        clock: the present time.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[Key, TaskState] = {}
        self._queued: dict[Key, float] = {}  # since when
        self._runs: dict[Key, Run] = {}

    def changed(self, status: TaskStatus) -> None:
        """See `Observer.changed`."""
        key, state = (status.record.memory, status.record.task), status.record.state
        if state is TaskState.QUEUED:
            self._queued.setdefault(key, self._clock())
        else:
            self._queued.pop(key, None)
        if state.final:
            self._runs.pop(key, None)
            self._states.pop(key, None)
            return
        if state is not TaskState.QUEUED:
            self._advance(key, status.progress, state is not self._states.get(key))
        self._states[key] = state

    def renewing(self, how: Renewal, memory: str, progress: Progress | None) -> None:  # noqa: ARG002 - whatever it is
        """See `Observer.renewing`."""
        self._advance((memory, ""), progress, progress is None)

    def renewed(self, how: Renewal, memory: str, ended: TaskState, consolidated: int) -> None:  # noqa: ARG002 - likewise
        """See `Observer.renewed`."""
        self._runs.pop((memory, ""), None)

    @property
    def states(self) -> Counter[TaskState]:
        """How many tasks are in each state that is not final."""
        return Counter(list(self._states.values()))

    @property
    def runs(self) -> list[Run]:
        """What runs now."""
        return list(self._runs.values())

    @property
    def longest_wait(self) -> float:
        """Seconds since the oldest of the queued tasks was admitted; 0 if none is queued."""
        return self._since(list(self._queued.values()))

    @property
    def silence(self) -> float:
        """Seconds since the run that has been still for longest got any further; 0 if nothing runs."""
        return self._since([run.moved for run in self.runs])

    def _advance(self, key: Key, progress: Progress | None, moved: bool) -> None:
        now = self._clock()
        run = self._runs.get(key)
        if run is None:
            taken = {other.place for other in self._runs.values()}
            self._runs[key] = Run(next(place for place in count() if place not in taken), now, progress)
        elif moved or _step(progress) != _step(run.progress):
            self._runs[key] = replace(run, moved=now, progress=progress)

    def _since(self, moments: list[float]) -> float:
        return self._clock() - min(moments) if moments else 0.0


def _step(progress: Progress | None) -> tuple[str, int]:
    """Where it stands: metrics and estimates may change without any step forward."""
    return ("", 0) if progress is None else (progress.phase, progress.step)
