"""The queue of tasks: admits them, has them learned, commits them, and says where each one is.

Whatever changes a memory passes through here: learning, sleep, forgetting, deleting, and the retraining of its solver.
Tasks of one memory are learned one after the other, each on top of those before it, unless its kind has them learned
side by side: then they start in the order of their admission and are committed in that of their ends, each in a
revision of its own. All else has its memory to itself: while anything of it learns, nothing of it is forgotten,
retrained or put to sleep.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from dgm_core.manifest import Blobs, Manifest
from dgm_core.memories import KINDS, kind_of
from dgm_core.memory import Terms
from memory_server.errors import MissingKind, ShuttingDown, SleepFailed, TaskFinished, TaskUnfinished
from memory_server.kinds import kind_of_memory
from memory_server.learning.audience import Audience
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.endings import CANCELLED, SERVER_STOPPED
from memory_server.learning.executor import Executor
from memory_server.learning.lessons import Lessons
from memory_server.learning.observer import Observer
from memory_server.learning.outlook import explain, forecast
from memory_server.learning.schedule import Schedule
from memory_server.learning.setting import Setting
from memory_server.learning.sleeps import Sleeps, sleepers
from memory_server.learning.solvers import Solvers
from memory_server.learning.status import LiveStatus, SleepState, SleepStatus, TaskStatus, Turn
from memory_server.learning.work import Lesson, Retraining, Sleep, Work
from memory_server.store.checkpoints import CHECKPOINTS, CheckpointStore
from memory_server.store.datadir import DataDir
from memory_server.store.errors import NotDeleted, NotErased
from memory_server.store.records import MemoryRecord, TaskRecord, TaskState

T = TypeVar("T")
_NOTHING: Blobs = {}
_NOBODY = Observer()


class TaskQueue:
    """All tasks that are not final yet. Belongs to one event loop.

    Arguments:
        store: where memories are kept.
        executor: who learns.
        audience: told of each change.
        parallel: how many tasks may learn at one time.
        heartbeat: seconds after which `watch` repeats an unchanged status.
        observer: told how learning goes.
        checkpoints: of what is being trained; None: none are kept.
    """

    def __init__(
        self,
        store: DataDir,
        executor: Executor,
        audience: Audience,
        *,
        parallel: int = 1,
        heartbeat: float = 10.0,
        observer: Observer = _NOBODY,
        checkpoints: CheckpointStore | None = None,
    ) -> None:
        self._store = store
        self._audience = audience
        self._parallel = parallel
        self._heartbeat = heartbeat
        self._schedule: Schedule[Work] = Schedule()
        setting = Setting(store, executor, audience, self._schedule, self._forecast, observer)
        self._lessons = Lessons(setting, checkpoints or CheckpointStore(store.path / CHECKPOINTS), self._settle)
        self._solvers = Solvers(setting)
        self._sleeps = Sleeps(setting)
        self._running: list[Work] = []  # in the order in which they started
        self._turns = LiveStatus(Turn(0))
        self._held: set[str] = set()  # memories of which nothing may start now
        self._changing = asyncio.Lock()  # one admission, forgetting or deletion at a time; cancellations go past it
        self._closing = False
        self._unfinished: set[asyncio.Task[Any]] = set()

    # What callers ask for

    async def submit(
        self,
        record: TaskRecord,
        buffer: IngestBuffer,
        terms: Terms,
        manifest_if_new: Manifest | None = None,
        content: Blobs = _NOTHING,
    ) -> TaskStatus:
        """Queues a task, or returns the one that is there with the same data (see `DataDir.admit`).

        Takes over the buffer: it is wiped in every outcome, an exception included. Goes on if the caller goes away.

        Raises:
            UnknownMemory, MemoryExists, TaskExists, MemoryNotMade: as `DataDir.admit` does.
            ShuttingDown: nothing new is admitted.
        """
        return await self._to_the_end(self._submit(record, buffer, terms, manifest_if_new, content))

    async def cancel(self, memory: str, task: str) -> TaskStatus:
        """Cancels a task that is queued or learning and wipes its data; a CANCELLED one is returned as it is.

        Raises:
            UnknownMemory, UnknownTask.
            TaskFinished: it has been learned or has failed, or its commit has begun.
        """
        return await self._to_the_end(self._cancel(memory, task))

    async def forget(self, memory: str, task: str) -> None:
        """Erases a task, and schedules the retraining of the solver that the memory then lacks.

        Of a task that FAILED or was CANCELLED, the record is removed. Goes on if the caller goes away.

        Raises:
            UnknownMemory, UnknownTask.
            TaskUnfinished: it is queued or learning, or another task of its memory is learning on top of it.
            CannotForget: later tasks reuse what it reserved.
            MissingKind: the solver could not be trained anew.
            NotForgotten: the disk is full or fails.
            NotErased: the disk fails; the task is forgotten.
            ShuttingDown: nothing is changed any more.
        """
        await self._to_the_end(self._forget(memory, task))

    async def delete(self, memory: str) -> None:
        """Cancels the tasks of a memory and deletes it.

        Raises:
            UnknownMemory.
            NotDeleted: the disk is full or fails; the memory is there still.
            NotErased: the disk fails; the memory is deleted.
        """
        await self._to_the_end(self._delete(memory))

    async def resume(self) -> None:
        """Schedules what an earlier server left undone: sleep of drowsy memories, solvers to be trained anew.

        Memories of kinds that this server does not have are logged and left as they are.
        """
        async with self._changing:
            for memory, newest in (await asyncio.to_thread(self._store.catalog.newest, sleepers())).items():
                self._sleeps.settle(memory, newest)
            kinds = await asyncio.to_thread(self._store.catalog.kinds)
            for memory in await asyncio.to_thread(self._store.catalog.incomplete):
                if kinds[memory] in KINDS:
                    self._solvers.restore_next(memory)
            self._dispatch()
        for memory in (name for name, kind in kinds.items() if kind not in KINDS):
            structlog.get_logger().error("a memory cannot be served", reason=str(MissingKind(memory, kinds[memory])))

    async def take_in(self, keep: Callable[[], MemoryRecord]) -> MemoryRecord:
        """Makes a memory of what has come from another server. Goes on if the caller goes away.

        What it lacks is scheduled, as `resume` does.

        Arguments:
            keep: makes it; may block, and raise whatever it likes.

        Raises:
            ShuttingDown: nothing new is begun.
        """
        return await self._to_the_end(self._take_in(keep))

    async def sleep(self, memory: str) -> AsyncIterator[SleepStatus]:
        """Has a memory sleep, or joins its sleep: the present status at once, then every change, with heartbeats.

        Ends with the sleep, which goes on if the caller goes away.

        Raises:
            UnknownMemory: there is no such memory, or no longer.
            CannotSleep: there is nothing to consolidate.
            MissingKind: there is no telling.
            SleepFailed: the memory is as it was.
            ShuttingDown: nothing new is begun, or the sleep was broken off.
        """
        live = await self._to_the_end(self._ask_to_sleep(memory))
        async for status in live.watch(self._heartbeat):
            if status.state is SleepState.FAILED:
                raise SleepFailed(memory, status.error)
            if status.state is SleepState.STOPPED:
                await self._say_why_it_stopped(memory)
            yield status

    async def use_idleness(self) -> None:
        """Has one memory sleep that can, unless there is anything to learn."""
        memories = await asyncio.to_thread(self._store.catalog.newest, sleepers())
        async with self._changing:
            if not (self._closing or self.busy):
                self._sleeps.use_idleness(memories)
                self._dispatch()

    @property
    def busy(self) -> bool:
        """Whether any task waits or learns."""
        return self._lessons.busy

    def solver_due(self, memory: str) -> float:
        """Seconds until the solver of a memory that lacks one should be there. Raises NoSolver if none will come."""
        return self._solvers.due(memory)

    async def status(self, memory: str, task: str) -> TaskStatus:
        """One task. Raises UnknownMemory, UnknownTask."""
        entry = self._lessons.get(memory, task)
        if entry is not None:
            return entry.live.value
        return TaskStatus(await asyncio.to_thread(self._store.catalog.task, memory, task))

    async def tasks(self, memory: str) -> list[TaskStatus]:
        """The tasks of a memory in the order of admission. Raises UnknownMemory."""
        records = await asyncio.to_thread(self._store.catalog.tasks, memory)
        entries = [self._lessons.get(memory, record.task) for record in records]
        return [
            TaskStatus(record) if entry is None else entry.live.value
            for record, entry in zip(records, entries, strict=True)
        ]

    async def watch(self, memory: str, task: str, until_consolidated: bool = False) -> AsyncIterator[TaskStatus]:
        """The present status at once, then every change, with heartbeats; ends after a final state.

        A slow reader gets the newest status only.

        Arguments:
            until_consolidated: of a LEARNED task, ends only once that is consolidated.

        Raises:
            UnknownMemory, UnknownTask: it is not there, or no longer.
            CannotSleep: it will never be consolidated.
            MissingKind: there is no telling.
            ShuttingDown: it is not consolidated yet.
        """
        entry = await self._entry(memory, task)
        if entry is not None:
            async for status in entry.live.watch(self._heartbeat):
                yield status
            if not until_consolidated or status.record.state is not TaskState.LEARNED:
                return
        async for _ in self._turns.watch(self._heartbeat):
            # In this order: a task that is consolidated or forgotten in between has not become one that never sleeps.
            newest = await asyncio.to_thread(self._store.catalog.manifest, memory) if until_consolidated else None
            status = await self.status(memory, task)
            if newest is None or status.record.state is not TaskState.LEARNED or status.record.consolidated:
                yield status
                return
            self._check_open("watch the task there")
            self._sleeps.check(memory, newest, task)
            yield status

    async def close(self, grace: float = 0.0) -> None:
        """Admits nothing more, stops the workers, wipes all data, fails what was not learned; a commit is finished.

        Arguments:
            grace: seconds that workers have to put down their training, if it is put down at all.
        """
        self._closing = True
        await self._lessons.put_down(grace, [work for work in self._running if isinstance(work, Lesson)])
        async with self._changing:
            await self._lessons.stop_all(SERVER_STOPPED)
            await self._solvers.drop_all()
            await self._sleeps.drop_all()
            self._announce()
        await asyncio.gather(*self._unfinished, return_exceptions=True)

    # Changes that callers make, one at a time but for cancellations

    async def _submit(
        self, record: TaskRecord, buffer: IngestBuffer, terms: Terms, manifest_if_new: Manifest | None, content: Blobs
    ) -> TaskStatus:
        try:
            async with self._changing:
                return await self._admit(record, buffer, terms, manifest_if_new, content)
        except BaseException:
            await asyncio.to_thread(buffer.wipe)
            raise

    async def _admit(
        self, record: TaskRecord, buffer: IngestBuffer, terms: Terms, manifest_if_new: Manifest | None, content: Blobs
    ) -> TaskStatus:
        self._check_open("send the task again to the next one")
        await self._lessons.record_late(record.memory, record.task)
        alone = await self._learns_alone(record.memory, manifest_if_new)
        admitted, new = await asyncio.to_thread(self._store.admit, record, manifest_if_new, content)
        if not new:
            await asyncio.to_thread(buffer.wipe)
            return await self.status(record.memory, record.task)
        entry = self._lessons.add(admitted, buffer, terms, alone)
        self._dispatch()
        return entry.live.value

    async def _learns_alone(self, memory: str, manifest_if_new: Manifest | None) -> bool:
        """Whether a task of a memory is learned while no other of it is."""
        if (manifest := manifest_if_new) is None:
            manifest = await asyncio.to_thread(self._store.catalog.manifest, memory)
        return not kind_of(manifest.kind).side_by_side(manifest.options)

    async def _take_in(self, keep: Callable[[], MemoryRecord]) -> MemoryRecord:
        self._check_open("import the memory into the next one")
        record = await asyncio.to_thread(keep)
        async with self._changing:
            self._complete(record.name, record.manifest)
            self._dispatch()
        return record

    async def _cancel(self, memory: str, task: str) -> TaskStatus:
        # Waits for no change of another memory, nor of this one: a data owner is told that it takes two seconds.
        entry = await self._entry(memory, task)
        if entry is not None and entry.record.state is not TaskState.COMMITTING:
            await self._lessons.stop(entry, CANCELLED)
            self._announce()
        status = await self.status(memory, task) if entry is None else entry.live.value
        if status.record.state is TaskState.CANCELLED:
            return status
        raise TaskFinished(
            f"task {task!r} of memory {memory!r} is {status.record.state} and can no longer be cancelled"
        )

    async def _entry(self, memory: str, task: str) -> Lesson | None:
        """A task that waits or learns; None if it is final. Raises UnknownMemory, UnknownTask."""
        if self._lessons.get(memory, task) is None and not (await self.status(memory, task)).record.state.final:
            async with self._changing:  # it is in the catalog and about to enter the queue
                pass
        return self._lessons.get(memory, task)

    async def _delete(self, memory: str) -> None:
        async with self._changing, self._hold(memory):
            await self._lessons.stop_all(CANCELLED, memory)
            await self._solvers.drop(memory)
            await self._sleeps.drop(memory)
            try:
                deleted = await asyncio.to_thread(self._store.delete_memory, memory)
            except NotDeleted:
                self._complete(memory, await asyncio.to_thread(self._store.catalog.manifest, memory))
                raise
            self._lessons.let_go(memory)
            await self._audience.deleted(memory, deleted)
        if deleted.undeleted:
            raise NotErased(f"memory {memory!r}", deleted.undeleted)

    def _complete(self, memory: str, newest: Manifest) -> None:
        """Schedules what a memory lacks, if this server has its kind."""
        if newest.kind not in KINDS:
            return
        self._sleeps.settle(memory, newest)
        if not newest.complete:
            self._solvers.restore_next(memory)

    async def _forget(self, memory: str, task: str) -> None:
        async with self._changing:
            self._check_open("ask the next one")
            await self._lessons.record_late(memory, task)
            record = (await self.status(memory, task)).record
            self._check_finished(record)
            kind_of_memory(memory, await asyncio.to_thread(self._store.catalog.manifest, memory))
            async with self._hold(memory):  # a task that starts now would build on what is about to go
                await self._erase(record)

    @asynccontextmanager
    async def _hold(self, memory: str) -> AsyncIterator[None]:
        """Has nothing of a memory start inside the block."""
        self._held.add(memory)
        try:
            yield
        finally:
            self._held.discard(memory)
            self._dispatch()

    def _check_finished(self, record: TaskRecord) -> None:
        if not record.state.final:
            raise TaskUnfinished(
                f"task {record.task!r} of memory {record.memory!r} is {record.state}; cancel it, or wait for it"
            )
        lessons = (work for work in self._running if work.memory == record.memory and isinstance(work, Lesson))
        above = next(lessons, None)
        if record.state is TaskState.LEARNED and above is not None:
            raise TaskUnfinished(
                f"{above.title} is being learned on top of task {record.task}; wait for it to end, or cancel it"
            )

    async def _erase(self, record: TaskRecord) -> None:
        memory, asleep = record.memory, None
        if record.state is TaskState.LEARNED:
            manifest = await asyncio.to_thread(self._store.catalog.manifest, memory)
            manifest.without(record.task)  # is refused before anything is stopped
            await self._solvers.stop(memory)
            asleep = await self._sleeps.stop(memory)  # which would consolidate the task
        try:
            if record.state is TaskState.LEARNED:  # before the task itself: the server may be killed in between
                self._lessons.forget_all(memory)
            forgotten = await asyncio.to_thread(self._store.forget, memory, record.task)
            self._lessons.forget(memory, record.task)
            await self._audience.forgotten(memory, forgotten)
        finally:
            self._sleeps.again(asleep)
            newest = await asyncio.to_thread(self._store.catalog.manifest, memory)
            if not newest.complete:
                self._solvers.restore_next(memory)
        if forgotten.undeleted:
            raise NotErased(f"task {record.task!r} of memory {memory!r}", forgotten.undeleted)

    async def _ask_to_sleep(self, memory: str) -> LiveStatus[SleepStatus]:
        async with self._changing:
            self._check_open("ask the next one")
            live = self._sleeps.ask(memory, await asyncio.to_thread(self._store.catalog.manifest, memory))
            self._dispatch()
            return live

    async def _say_why_it_stopped(self, memory: str) -> None:
        async with self._changing:  # it was stopped for a deletion, or for the end
            await asyncio.to_thread(self._store.catalog.manifest, memory)
        raise ShuttingDown("the server is shutting down; the memory is as it was, ask the next one")

    # Turns

    def _dispatch(self) -> None:
        while len(self._running) < self._parallel and not self._closing:
            work = self._schedule.next(self._may_start)
            if work is None:
                break
            self._running.append(work)
            work.runner = asyncio.create_task(self._run(work), context=work.context)
        self._announce()

    def _may_start(self, work: Work) -> bool:
        return work.memory not in self._held and not any(work.excludes(other) for other in self._running)

    async def _run(self, work: Work) -> None:
        try:
            if isinstance(work, Lesson):
                await self._lessons.run(work)
            elif isinstance(work, Retraining):
                await self._solvers.run(work)
            elif isinstance(work, Sleep):
                await self._sleeps.run(work)
        finally:  # whoever waits for its end, or for its place, hears of it even if nobody foresaw what it was
            self._running.remove(work)
            work.done.set()
            self._dispatch()

    def _settle(self, memory: str, learned: Manifest) -> None:
        self._solvers.settle(memory, learned)
        self._sleeps.settle(memory, learned)

    # What others see

    def _announce(self) -> None:
        """Tells every waiting task what it waits for now, and watchers that something has changed."""
        explain(self._running, self._schedule.order(), self._parallel)
        self._forecast()
        self._turns.set(Turn(self._turns.value.number + 1))

    def _forecast(self) -> None:
        forecast(self._running, self._schedule.order(), self._parallel, self._lessons.typical_seconds)

    def _check_open(self, advice: str) -> None:
        if self._closing:
            raise ShuttingDown(f"the server is shutting down; {advice}")

    async def _to_the_end(self, change: Coroutine[Any, Any, T]) -> T:
        """Makes a change whole even if its caller is cancelled halfway, as when a client goes away."""
        task = asyncio.create_task(change)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)
