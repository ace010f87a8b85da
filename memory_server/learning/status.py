"""Where a task, or a sleep, is, and how to follow it without missing or hoarding anything."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from dgm_core.memory import Progress
from memory_server.store.records import TaskRecord


@dataclass(frozen=True)
class TaskStatus:
    """A task as a client sees it.

    Arguments:
        record: what is known of it.
        waiting_for: while QUEUED: what it waits for, for example "queued behind task t3 of memory digits".
        position: while QUEUED: 1 if it starts next; 0 while unknown.
        starts_in: while QUEUED: estimated seconds until it starts.
        progress: while LEARNING, once there is some.
    """

    record: TaskRecord
    waiting_for: str = ""
    position: int = 0
    starts_in: float | None = None
    progress: Progress | None = None

    @property
    def final(self) -> bool:
        """Whether the task will never leave this state."""
        return self.record.state.final


class SleepState(StrEnum):
    """Where a sleep stands."""

    QUEUED = "QUEUED"
    SLEEPING = "SLEEPING"
    ENDED = "ENDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


@dataclass(frozen=True)
class SleepStatus:
    """A sleep as a client sees it.

    Arguments:
        state: where it stands.
        waiting_for, position, starts_in: as of `TaskStatus`.
        progress: while SLEEPING, once there is some.
        error: why it FAILED.
    """

    state: SleepState = SleepState.QUEUED
    waiting_for: str = ""
    position: int = 0
    starts_in: float | None = None
    progress: Progress | None = None
    error: str = ""

    @property
    def final(self) -> bool:
        """Whether it is over."""
        return self.state in (SleepState.ENDED, SleepState.FAILED, SleepState.STOPPED)


@dataclass(frozen=True)
class Turn:
    """How often what runs and what waits has changed."""

    number: int
    final: bool = False


class Status(Protocol):
    """Where something stands that comes to an end."""

    @property
    def final(self) -> bool:
        """Whether it has."""


S = TypeVar("S", bound=Status)


class LiveStatus(Generic[S]):
    """The newest status of one thing, for any number of watchers. A slow watcher skips what it missed.

    Arguments:
        value: the first one.
        told: called with each status, the first one included; it skips none.
    """

    def __init__(self, value: S, told: Callable[[S], None] = lambda _: None) -> None:
        self._value = value
        self._told = told
        self._changed = asyncio.Event()
        told(value)

    @property
    def value(self) -> S:
        """The newest status."""
        return self._value

    def set(self, value: S) -> None:
        """Replaces it and wakes the watchers, unless nothing changed."""
        if value == self._value:
            return
        self._value = value
        self._told(value)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def watch(self, heartbeat: float) -> AsyncIterator[S]:
        """The present status, then each change; the same again after `heartbeat` silent seconds. Ends if final."""
        while True:
            value, changed = self._value, self._changed
            yield value
            if value.final:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(heartbeat):
                    await changed.wait()
