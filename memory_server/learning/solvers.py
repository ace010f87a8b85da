"""The solvers that memories lack: their retraining, and when each should be there.

A solver is dropped when a task was forgotten, for it replayed that task; and when tasks were committed that had learned
side by side, for none of them had replayed the others.
"""

import asyncio
from collections.abc import Callable

import structlog

from dgm_core.manifest import Manifest
from dgm_core.memory import Progress
from memory_server.errors import NoSolver
from memory_server.learning.audience import Audience, tell
from memory_server.learning.executor import Executor
from memory_server.learning.observer import Observer
from memory_server.learning.schedule import Schedule
from memory_server.learning.work import Retraining, Work
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskState

_A_MOMENT = 0.5


class Solvers:
    """Retrainings that wait or run, at most one of each memory. Belongs to the queue that runs them.

    Arguments:
        store: where memories are kept.
        executor: who trains.
        audience: told of each solver that is there again.
        schedule: where a retraining waits for its turn.
        progressed: called when one has come further.
        observer: told how it goes.
    """

    def __init__(
        self,
        store: DataDir,
        executor: Executor,
        audience: Audience,
        schedule: Schedule[Work],
        progressed: Callable[[], None],
        observer: Observer,
    ) -> None:
        self._store = store
        self._executor = executor
        self._audience = audience
        self._schedule = schedule
        self._progressed = progressed
        self._observer = observer
        self._retrainings: dict[str, Retraining] = {}
        self._failed: set[str] = set()  # memories whose solver could not be trained anew

    def due(self, memory: str) -> float:
        """Seconds until the solver of a memory that lacks one should be there. Raises NoSolver if none will come."""
        if memory in self._failed:
            raise NoSolver(memory)
        retraining = self._retrainings.get(memory)
        return _A_MOMENT if retraining is None else max(_A_MOMENT, retraining.expected)

    def restore_next(self, memory: str) -> None:
        """Has a solver trained before the tasks of its memory: it takes a fraction of their time."""
        if (work := self._new(memory)) is not None:
            self._schedule.add_first(memory, work)

    def settle(self, memory: str, committed: Manifest) -> None:
        """After the commit of a task: has the solver trained that is then lacking, behind the tasks that wait now.

        Each of those would put it out of date again, and the last of them brings its own if it learns alone.
        """
        if committed.complete:
            self._failed.discard(memory)
        elif (work := self._new(memory)) is not None:
            self._schedule.add(memory, work)

    async def train(self, work: Retraining) -> None:
        """Brings a retraining that has its turn to its end; begins again if the memory has moved on meanwhile."""
        self._observer.retraining(work.memory, None)
        ended = TaskState.LEARNED
        try:
            while not ((manifest := await self._newest(work.memory)).complete or work.stopped):
                await self._restore(work, manifest)
        except asyncio.CancelledError:
            ended = TaskState.CANCELLED  # Whoever stopped it knows what comes next.
        except Exception as error:
            ended = TaskState.FAILED
            self._failed.add(work.memory)
            structlog.get_logger().error("a solver was not trained anew", memory=work.memory, error=repr(error))
        del self._retrainings[work.memory]
        self._observer.retrained(work.memory, ended)

    async def stop(self, memory: str) -> None:
        """Ends a retraining, or waits until its solver is committed if that has begun."""
        work = self._retrainings.get(memory)
        if work is None:
            return
        work.stopped = True
        if work.runner is None:
            self._schedule.remove(memory, work)
            del self._retrainings[memory]
            return
        if work.doing is not None:
            work.doing.cancel()
        await work.done.wait()

    async def stop_all(self) -> None:
        """Ends every retraining."""
        for memory in list(self._retrainings):
            await self.stop(memory)

    async def drop(self, memory: str) -> None:
        """Ends the retraining of a memory that is about to be deleted."""
        await self.stop(memory)
        self._failed.discard(memory)

    def _new(self, memory: str) -> Retraining | None:
        """A retraining to be scheduled, unless there is one."""
        if memory in self._retrainings:
            return None
        self._failed.discard(memory)
        self._retrainings[memory] = Retraining(memory)
        return self._retrainings[memory]

    async def _newest(self, memory: str) -> Manifest:
        return await asyncio.to_thread(self._store.catalog.manifest, memory)

    async def _restore(self, work: Retraining, manifest: Manifest) -> None:
        def report(progress: Progress) -> None:
            work.progress = progress
            self._observer.retraining(work.memory, progress)
            self._progressed()

        work.doing = asyncio.create_task(self._executor.restore(manifest, report))
        shared = await work.doing
        restored = await asyncio.to_thread(self._store.restore, work.memory, manifest.revision, shared)
        if restored is not None:
            await tell(self._audience, work.memory, restored)
