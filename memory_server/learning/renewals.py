"""What is made anew of whole memories: what they share, such as a solver, and where sleep puts what they hold."""

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import structlog

from dgm_core.manifest import Manifest
from dgm_core.memory import Progress
from memory_server.learning.audience import tell
from memory_server.learning.errors import logged
from memory_server.learning.messages import Renewal
from memory_server.learning.setting import Setting
from memory_server.learning.work import Renewing
from memory_server.store.records import Restored, TaskState

R = TypeVar("R", bound=Renewing)


class Renewals(ABC, Generic[R]):
    """Renewals of one sort that wait or run, at most one of each memory. Belongs to the queue that runs them."""

    how: ClassVar[Renewal]

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._works: dict[str, R] = {}

    async def run(self, work: R) -> None:
        """Brings a renewal that has its turn to its end; begins again if the memory has moved on meanwhile."""
        self._tell(work, None)
        ended, error, consolidated = TaskState.LEARNED, "", 0
        try:
            consolidated = await self._bring(work)
        except asyncio.CancelledError:
            ended = TaskState.CANCELLED  # Whoever stopped it knows what comes next.
        except Exception as problem:
            ended, error = TaskState.FAILED, type(problem).__name__
            log = structlog.get_logger()
            log.error("a memory was not renewed", how=self.how.value, memory=work.memory, **logged(problem))
        del self._works[work.memory]
        self._setting.observer.renewed(self.how, work.memory, ended, consolidated)
        self._over(work, ended, error)

    async def stop(self, memory: str) -> R | None:
        """Ends a renewal, or waits until it is committed if that has begun. Gives the one that there was."""
        work = self._works.get(memory)
        if work is None:
            return None
        work.stopped = True
        if work.runner is None:
            self._setting.schedule.remove(memory, work)
            del self._works[memory]
        else:
            if work.doing is not None:
                work.doing.cancel()
            await work.done.wait()
        return work

    async def drop_all(self) -> None:
        """Ends every renewal for good."""
        for memory in list(self._works):
            await self.drop(memory)

    @abstractmethod
    async def drop(self, memory: str) -> None:
        """Ends the renewal of a memory for good."""

    @abstractmethod
    def _needed(self, manifest: Manifest) -> bool:
        """Whether there is anything to renew."""

    @abstractmethod
    def _over(self, work: R, ended: TaskState, error: str) -> None:
        """Told how a renewal has ended: LEARNED, CANCELLED, or FAILED with an error of that name."""

    async def _bring(self, work: R) -> int:
        """Renews a memory that needs it; gives how many tasks that consolidated. Raises CancelledError if stopped."""
        while self._needed(manifest := await asyncio.to_thread(self._setting.store.catalog.manifest, work.memory)):
            if work.stopped:
                raise asyncio.CancelledError
            if (renewed := await self._renewed(work, manifest)) is not None:
                return _consolidated(renewed.manifest) - _consolidated(manifest)
        return 0

    async def _renewed(self, work: R, manifest: Manifest) -> Restored | None:
        """The revision that comes of a renewal; None if the memory has moved on meanwhile."""

        def report(progress: Progress) -> None:
            self._tell(work, progress)
            self._setting.progressed()

        work.revision = manifest.revision
        work.doing = asyncio.create_task(self._setting.executor.renew(self.how, manifest, report))
        shared = await work.doing
        restored = await asyncio.to_thread(self._setting.store.restore, work.memory, manifest.revision, shared)
        if restored is not None:
            await tell(self._setting.audience, work.memory, restored)
        return restored

    def _tell(self, work: R, progress: Progress | None) -> None:
        work.progressed(progress)
        self._setting.observer.renewing(self.how, work.memory, progress)


def _consolidated(manifest: Manifest) -> int:
    return sum(entry.consolidated for entry in manifest.tasks)
