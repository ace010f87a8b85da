"""What the queue has to do: lessons, retrainings, sleeps. Most occupy their memory alone, from start to end."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from typing import Any, ClassVar

from dgm_core.manifest import Learned
from dgm_core.memory import Progress, Terms
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.endings import Ending
from memory_server.learning.status import LiveStatus, SleepState, SleepStatus, TaskStatus
from memory_server.store.records import TaskRecord, TaskState

Key = tuple[str, str]
"""(memory, task)."""

_STEP_SECONDS = 5.0
"""How fine an estimate is that those who wait are told."""


class Work(ABC):
    """One piece of work on a memory.

    Arguments:
        memory: its name.
        alone: nothing else of that memory may run meanwhile.

    Attributes:
        context: what is logged and traced for it belongs to the call that asked for it, whoever has it started.
        runner: brings it to its end, once it has been started.
        doing: what the executor does for it.
        done: set once it has ended.
    """

    def __init__(self, memory: str, alone: bool) -> None:
        self.memory = memory
        self.alone = alone
        self.context = copy_context()
        self.runner: asyncio.Task[None] | None = None
        self.doing: asyncio.Task[Any] | None = None
        self.done = asyncio.Event()

    def excludes(self, other: "Work") -> bool:
        """Whether the two may not run at one time."""
        return self.memory == other.memory and (self.alone or other.alone)

    @property
    @abstractmethod
    def title(self) -> str:
        """What those behind it are told that they wait for."""

    @abstractmethod
    def queued_behind(self, title: str, position: int) -> None:
        """Told what it waits for, empty if nothing is in its way, and its place in the queue, from 1 on."""

    @abstractmethod
    def expect(self, start: float, end: float) -> None:
        """Told in how many seconds it should start, 0 if it has, and end."""

    @abstractmethod
    def seconds_left(self, typical: float) -> float:
        """How long it still takes, where a task typically takes so long."""


class Lesson(Work):
    """A task on its way to a final state.

    Arguments:
        record: as admitted.
        buffer: its data.
        terms: what it may take.
        alone: it may not be learned beside others of its memory.
        told: called with its status at every change.

    Attributes:
        live: its status, for those who watch.
        verdict: how it is to end, decided from outside: cancelled, or failed by a shutdown.
        unrecorded: its end, if the catalog could not be told.
    """

    doing: asyncio.Task[Learned] | None

    def __init__(
        self,
        record: TaskRecord,
        buffer: IngestBuffer,
        terms: Terms,
        alone: bool,
        told: Callable[[TaskStatus], None],
    ) -> None:
        super().__init__(record.memory, alone)
        self.live = LiveStatus(TaskStatus(record), told)
        self.buffer = buffer
        self.terms = terms
        self.verdict: Ending | None = None
        self.unrecorded: Ending | None = None

    @property
    def record(self) -> TaskRecord:
        """What is known of the task now."""
        return self.live.value.record

    @property
    def key(self) -> Key:
        """The names of memory and task."""
        return self.memory, self.record.task

    @property
    def title(self) -> str:
        """See `Work.title`."""
        return f"task {self.record.task} of memory {self.memory}"

    def queued_behind(self, title: str, position: int) -> None:
        """See `Work.queued_behind`."""
        waiting_for = title and f"queued behind {title}"
        self.live.set(replace(self.live.value, waiting_for=waiting_for, position=position))

    def expect(self, start: float, end: float) -> None:
        """Tells those who watch when it starts, and the ingest budget when it ends: what a refused client waits."""
        if self.record.state is TaskState.QUEUED:
            self.live.set(replace(self.live.value, starts_in=_coarse(start)))
        self.buffer.reservation.expect(end)

    def seconds_left(self, typical: float) -> float:
        """See `Work.seconds_left`."""
        progress = self.live.value.progress
        if progress is not None and progress.seconds_left is not None:
            return progress.seconds_left
        return typical if self.terms.seconds is None else min(self.terms.seconds, typical)


class Renewing(Work):
    """What a memory shares on its way to being made anew. It would not know what is committed meanwhile: nothing is.

    Attributes:
        progress: how far it is, once that is known.
        revision: of the memory upon which it is made anew; 0 before that is known.
        stopped: whether it is no longer wanted.
        expected: seconds after which it should have ended.
    """

    share: ClassVar[float]
    """About what part of a task's time it takes."""

    def __init__(self, memory: str) -> None:
        super().__init__(memory, alone=True)
        self.progress: Progress | None = None
        self.revision = 0
        self.stopped = False
        self.expected = 0.0

    def progressed(self, progress: Progress | None) -> None:
        """Told how far it is; None when it begins."""
        self.progress = progress

    def queued_behind(self, title: str, position: int) -> None:
        """Tells nobody, unless somebody waits for it."""

    def expect(self, start: float, end: float) -> None:  # noqa: ARG002 - of interest to those who wait for it
        """Keeps the end for those who ask."""
        self.expected = end

    def seconds_left(self, typical: float) -> float:
        """See `Work.seconds_left`."""
        if self.progress is not None and self.progress.seconds_left is not None:
            return self.progress.seconds_left
        return self.share * typical


class Retraining(Renewing):
    """The solver of a memory on its way to being made anew."""

    share = 0.15

    @property
    def title(self) -> str:
        """See `Work.title`."""
        return f"the retraining of the solver of memory {self.memory}"


class Sleep(Renewing):
    """A memory that is to consolidate what it holds.

    Arguments:
        live: its status, if there are some who watch already.
    """

    share = 2.0

    def __init__(self, memory: str, live: LiveStatus[SleepStatus] | None = None) -> None:
        super().__init__(memory)
        self.live = live or LiveStatus(SleepStatus())

    @property
    def title(self) -> str:
        """See `Work.title`."""
        return f"the sleep of memory {self.memory}"

    def progressed(self, progress: Progress | None) -> None:
        """Tells those who watch."""
        super().progressed(progress)
        self.live.set(SleepStatus(SleepState.SLEEPING, progress=progress))

    def queued_behind(self, title: str, position: int) -> None:
        """See `Work.queued_behind`."""
        waiting_for = title and f"queued behind {title}"
        self.live.set(replace(self.live.value, waiting_for=waiting_for, position=position))

    def expect(self, start: float, end: float) -> None:
        """Tells those who watch when it starts, too."""
        super().expect(start, end)
        if self.live.value.state is SleepState.QUEUED:
            self.live.set(replace(self.live.value, starts_in=_coarse(start)))


def _coarse(seconds: float) -> float:
    """In steps, or all who wait would be woken with each progress of the one that runs."""
    return _STEP_SECONDS * round(seconds / _STEP_SECONDS)
