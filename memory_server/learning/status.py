"""Where a task is, and how to follow it without missing or hoarding anything."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

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


class LiveStatus:
    """The newest status of one task, for any number of watchers. A slow watcher skips what it missed.

    Arguments:
        value: the first one.
        told: called with each status, the first one included; it skips none.
    """

    def __init__(self, value: TaskStatus, told: Callable[[TaskStatus], None] = lambda _: None) -> None:
        self._value = value
        self._told = told
        self._changed = asyncio.Event()
        told(value)

    @property
    def value(self) -> TaskStatus:
        """The newest status."""
        return self._value

    def set(self, value: TaskStatus) -> None:
        """Replaces it and wakes the watchers, unless nothing changed."""
        if value == self._value:
            return
        self._value = value
        self._told(value)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def watch(self, heartbeat: float) -> AsyncIterator[TaskStatus]:
        """The present status, then each change; the same again after `heartbeat` silent seconds. Ends if final."""
        while True:
            value, changed = self._value, self._changed
            yield value
            if value.record.state.final:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(heartbeat):
                    await changed.wait()
