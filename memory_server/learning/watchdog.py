"""Has a worker keep to its bounds: the memory that it fills, the time that it takes, the silence that it keeps.

The server measures what the kernel knows of the process, for a worker that has lost its way measures nothing. The
kernel's own bounds serve worse: RLIMIT_AS and RLIMIT_DATA count what is mapped and not what is resident, of which CUDA
maps many times what it uses, and a control group can only be made by who was given one.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from memory_server.learning.errors import TaskTimedOut, WorkerSilent, WorkerTooLarge

T = TypeVar("T")

_LOOK_EVERY = 0.25
_HELD_UP = 10.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Bounds:
    """What one piece of work may take.

    Arguments:
        memory_bytes: of the worker's resident set, its data included; None: no bound.
        seconds: from the start of its worker to its answer; None: no bound.
        silence_seconds: between two signs of life.
    """

    memory_bytes: int | None = None
    seconds: float | None = None
    silence_seconds: float = 300.0


class Watchdog:
    """Watches one worker.

    Arguments:
        worker: its process id.
        bounds: that it must keep.
        clock: seconds.
    """

    def __init__(self, worker: int, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker, self._bounds, self._clock = worker, bounds, clock
        self._started = self._heard = self._looked = clock()

    def heard(self) -> None:
        """Notes a sign of life."""
        self._heard = self._clock()

    def check(self) -> None:
        """Looks at the worker once. Raises WorkerTooLarge, TaskTimedOut, WorkerSilent."""
        now, bounds = self._clock(), self._bounds
        if now - self._looked > _HELD_UP:  # the server itself was stopped: what came meanwhile is still to be read
            self._heard = now
        self._looked = now
        if bounds.memory_bytes is not None and resident_bytes(self._worker) > bounds.memory_bytes:
            raise WorkerTooLarge(bounds.memory_bytes)
        if bounds.seconds is not None and now - self._started > bounds.seconds:
            raise TaskTimedOut(bounds.seconds)
        if now - self._heard > bounds.silence_seconds:
            raise WorkerSilent(bounds.silence_seconds)

    async def guard(self, following: Awaitable[T]) -> T:
        """What is awaited, unless the worker breaks a bound before: then that is raised."""
        answer, watch = asyncio.ensure_future(following), asyncio.create_task(self._watch())
        try:
            await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                await watch
            return await answer
        finally:
            for each in (answer, watch):
                each.cancel()
            await asyncio.gather(answer, watch, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(_LOOK_EVERY)


def resident_bytes(process: int) -> int:
    """The resident set of a process, shared memory included; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def kills_for_memory() -> int:
    """How many processes the kernel has killed because memory ran out; 0 where it does not say."""
    try:
        counters = Path("/proc/vmstat").read_text().split()
        return int(counters[counters.index("oom_kill") + 1])
    except (OSError, ValueError):
        return 0
