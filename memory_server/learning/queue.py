"""The queue of tasks: admits them, has them learned one after the other, commits them, and says where each one is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import Any, TypeVar

import structlog

from dgm_core.memory import Learned, Manifest, Progress, Terms
from memory_server.errors import ShuttingDown, TaskFinished
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.endings import CANCELLED, SERVER_STOPPED, Ending, failure
from memory_server.learning.executor import Executor
from memory_server.learning.messages import Job
from memory_server.learning.schedule import Schedule
from memory_server.learning.status import LiveStatus, TaskStatus
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskRecord, TaskState

T = TypeVar("T")
Key = tuple[str, str]
"""(memory, task)."""

OnCommit = Callable[[str, Manifest], None]
"""Called on the event loop with each new revision, before the task is seen as LEARNED."""

_TYPICAL_SECONDS = 60.0


@dataclass(eq=False)
class _Entry:
    """A task on its way to a final state."""

    live: LiveStatus
    buffer: IngestBuffer
    terms: Terms
    runner: asyncio.Task[None] | None = None
    learning: asyncio.Task[Learned] | None = None
    verdict: Ending | None = None  # decided from outside: cancelled, or failed by a shutdown
    unrecorded: Ending | None = None  # an end of which the catalog could not be told
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def record(self) -> TaskRecord:
        return self.live.value.record

    @property
    def key(self) -> Key:
        return self.record.memory, self.record.task


class TaskQueue:
    """All tasks that are not final yet. Belongs to one event loop.

    Arguments:
        store: where memories are kept.
        executor: who learns.
        on_commit: told of each new revision.
        parallel: how many tasks may learn at one time, of different memories.
        heartbeat: seconds after which `watch` repeats an unchanged status.
    """

    def __init__(
        self,
        store: DataDir,
        executor: Executor,
        on_commit: OnCommit,
        *,
        parallel: int = 1,
        heartbeat: float = 10.0,
    ) -> None:
        self._store = store
        self._executor = executor
        self._on_commit = on_commit
        self._parallel = parallel
        self._heartbeat = heartbeat
        self._entries: dict[Key, _Entry] = {}
        self._schedule: Schedule[_Entry] = Schedule()
        self._running: dict[str, _Entry] = {}
        self._changing = asyncio.Lock()  # one admission, cancellation or deletion at a time
        self._closing = False
        self._typical_seconds = _TYPICAL_SECONDS
        self._unfinished: set[asyncio.Task[Any]] = set()

    # What callers ask for

    async def submit(
        self, record: TaskRecord, buffer: IngestBuffer, terms: Terms, manifest_if_new: Manifest | None = None
    ) -> TaskStatus:
        """Queues a task, or returns the one that is there with the same data (see `Catalog.admit`).

        Takes over the buffer: it is wiped in every outcome, an exception included. Goes on if the caller goes away.

        Raises:
            UnknownMemory, MemoryExists, TaskExists: as `Catalog.admit` does.
            ShuttingDown: nothing new is admitted.
        """
        return await self._to_the_end(self._submit(record, buffer, terms, manifest_if_new))

    async def cancel(self, memory: str, task: str) -> TaskStatus:
        """Cancels a task that is queued or learning and wipes its data; a CANCELLED one is returned as it is.

        Raises:
            UnknownMemory, UnknownTask.
            TaskFinished: it has been learned or has failed, or its commit has begun.
        """
        return await self._to_the_end(self._cancel(memory, task))

    async def delete(self, memory: str) -> None:
        """Cancels the tasks of a memory and deletes it. Raises UnknownMemory."""
        await self._to_the_end(self._delete(memory))

    async def status(self, memory: str, task: str) -> TaskStatus:
        """One task. Raises UnknownMemory, UnknownTask."""
        entry = self._entries.get((memory, task))
        if entry is not None:
            return entry.live.value
        return TaskStatus(await asyncio.to_thread(self._store.catalog.task, memory, task))

    async def tasks(self, memory: str) -> list[TaskStatus]:
        """The tasks of a memory in the order of admission. Raises UnknownMemory."""
        records = await asyncio.to_thread(self._store.catalog.tasks, memory)
        entries = [self._entries.get((memory, record.task)) for record in records]
        return [
            TaskStatus(record) if entry is None else entry.live.value
            for record, entry in zip(records, entries, strict=True)
        ]

    async def watch(self, memory: str, task: str) -> AsyncIterator[TaskStatus]:
        """The present status at once, then every change, with heartbeats; ends after a final state.

        A slow reader gets the newest status only. Raises UnknownMemory, UnknownTask.
        """
        async with self._changing:  # a task may be in the catalog and about to enter the queue
            entry = self._entries.get((memory, task))
        if entry is None:
            yield await self.status(memory, task)
            return
        async for status in entry.live.watch(self._heartbeat):
            yield status

    async def close(self) -> None:
        """Admits nothing more, stops the workers, wipes all data, fails what was not learned; a commit is finished."""
        self._closing = True
        async with self._changing:
            await self._stop_all(list(self._entries.values()), SERVER_STOPPED)
        await asyncio.gather(*self._unfinished, return_exceptions=True)

    # Changes, one at a time

    async def _submit(
        self, record: TaskRecord, buffer: IngestBuffer, terms: Terms, manifest_if_new: Manifest | None
    ) -> TaskStatus:
        try:
            async with self._changing:
                return await self._admit(record, buffer, terms, manifest_if_new)
        except BaseException:
            await asyncio.to_thread(buffer.wipe)
            raise

    async def _admit(
        self, record: TaskRecord, buffer: IngestBuffer, terms: Terms, manifest_if_new: Manifest | None
    ) -> TaskStatus:
        if self._closing:
            raise ShuttingDown("the server is shutting down; send the task again to the next one")
        await self._record_late((record.memory, record.task))
        admitted, new = await asyncio.to_thread(self._store.catalog.admit, record, manifest_if_new)
        if not new:
            await asyncio.to_thread(buffer.wipe)
            return await self.status(record.memory, record.task)
        entry = _Entry(LiveStatus(TaskStatus(admitted)), buffer, terms)
        self._entries[entry.key] = entry
        self._schedule.add(record.memory, entry)
        self._dispatch()
        return entry.live.value

    async def _cancel(self, memory: str, task: str) -> TaskStatus:
        async with self._changing:
            entry = self._entries.get((memory, task))
            if entry is not None and entry.record.state is not TaskState.COMMITTING:
                await self._stop(entry, CANCELLED)
            status = await self.status(memory, task) if entry is None else entry.live.value
        if status.record.state is TaskState.CANCELLED:
            return status
        raise TaskFinished(
            f"task {task!r} of memory {memory!r} is {status.record.state} and can no longer be cancelled"
        )

    async def _delete(self, memory: str) -> None:
        async with self._changing:
            entries = [entry for entry in self._entries.values() if entry.record.memory == memory]
            await self._stop_all(entries, CANCELLED)
            await asyncio.to_thread(self._store.delete_memory, memory)
            for entry in entries:
                self._entries.pop(entry.key, None)

    async def _stop_all(self, entries: list[_Entry], end: Ending) -> None:
        for entry in reversed(entries):  # the last first, or the next one would start
            await self._stop(entry, end)

    async def _stop(self, entry: _Entry, end: Ending) -> None:
        """Brings a task to a final state: the given one, or LEARNED if its commit has begun."""
        entry.verdict = end
        if entry.done.is_set():
            return
        if entry.runner is None:
            self._schedule.remove(entry.record.memory, entry)
            await asyncio.to_thread(entry.buffer.wipe)
            self._finish(entry, await self._record(entry, end))
        elif entry.learning is not None:
            entry.learning.cancel()
        await entry.done.wait()

    # The life of one task

    def _dispatch(self) -> None:
        while len(self._running) < self._parallel and not self._closing:
            entry = self._schedule.next(busy=self._running)
            if entry is None:
                break
            self._running[entry.record.memory] = entry
            entry.runner = asyncio.create_task(self._run(entry))
        self._announce()

    async def _run(self, entry: _Entry) -> None:
        try:
            learned = await self._learn(entry)
            record = await self._commit(entry, learned)
        except asyncio.CancelledError:
            record = await self._record(entry, entry.verdict or SERVER_STOPPED)
        except Exception as error:
            record = await self._record(entry, failure(error, *entry.key))
        del self._running[record.memory]
        self._finish(entry, record)
        self._dispatch()

    async def _learn(self, entry: _Entry) -> Learned:
        try:
            await self._move(entry, TaskState.LEARNING)
            manifest = await asyncio.to_thread(self._store.catalog.manifest, entry.record.memory)
            if entry.verdict is not None:
                raise asyncio.CancelledError
            job = Job(manifest, entry.record.task, entry.record.classes, entry.record.count, entry.terms)
            report = self._reporter(entry)
            entry.learning = asyncio.create_task(self._executor.learn(job, entry.buffer, report))
            return await entry.learning
        finally:
            await asyncio.to_thread(entry.buffer.wipe)

    async def _commit(self, entry: _Entry, learned: Learned) -> TaskRecord:
        memory, task = entry.key
        await self._move(entry, TaskState.COMMITTING)
        committed = await asyncio.to_thread(self._store.commit, memory, task, learned)
        self._typical_seconds += 0.5 * (learned.entry.seconds - self._typical_seconds)
        try:
            self._on_commit(memory, committed.manifest)
        except Exception as error:  # The task is learned, whatever becomes of those who wanted to know.
            structlog.get_logger().error("a commit was not announced", memory=memory, task=task, error=repr(error))
        return committed.task

    async def _move(self, entry: _Entry, state: TaskState) -> None:
        entry.live.set(TaskStatus(replace(entry.record, state=state)))
        await asyncio.to_thread(self._store.catalog.set_state, *entry.key, state)

    async def _record(self, entry: _Entry, end: Ending) -> TaskRecord:
        try:
            return await asyncio.to_thread(self._store.catalog.set_state, *entry.key, *astuple(end))
        except Exception as problem:  # A task must end for those who wait, even if the disk is full.
            memory, task = entry.key
            structlog.get_logger().error("a task's end was not recorded", memory=memory, task=task, error=repr(problem))
            entry.unrecorded = end
            return replace(entry.record, **asdict(end))

    def _finish(self, entry: _Entry, record: TaskRecord) -> None:
        entry.live.set(TaskStatus(record))
        if entry.unrecorded is None:
            del self._entries[entry.key]
        entry.done.set()
        self._announce()

    async def _record_late(self, key: Key) -> None:
        """Records the end of a task that could not be recorded when it came, as on a full disk."""
        entry = self._entries.get(key)
        if entry is not None and entry.unrecorded is not None:
            await asyncio.to_thread(self._store.catalog.set_state, *key, *astuple(entry.unrecorded))
            del self._entries[key]

    # What others see

    def _reporter(self, entry: _Entry) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            entry.live.set(TaskStatus(entry.record, progress=progress))
            self._forecast()

        return report

    def _announce(self) -> None:
        """Tells every waiting task what it waits for now."""
        running = list(self._running.values())
        waiting = self._schedule.order()
        for ahead, entry in zip([*running[:1], *waiting], waiting, strict=False):
            text = "" if ahead is entry else f"queued behind task {ahead.record.task} of memory {ahead.record.memory}"
            entry.live.set(TaskStatus(entry.record, waiting_for=text))
        self._forecast()

    def _forecast(self) -> None:
        """Tells the ingest budget when each place will be free: what a refused client is told to wait."""
        seconds = 0.0
        for entry in [*self._running.values(), *self._schedule.order()]:
            seconds += self._seconds_left(entry) / self._parallel
            entry.buffer.reservation.expect(seconds)

    def _seconds_left(self, entry: _Entry) -> float:
        progress = entry.live.value.progress
        if progress is not None and progress.seconds_left is not None:
            return progress.seconds_left
        bound = entry.terms.seconds
        return self._typical_seconds if bound is None else min(bound, self._typical_seconds)

    async def _to_the_end(self, change: Coroutine[Any, Any, T]) -> T:
        """Makes a change whole even if its caller is cancelled halfway, as when a client goes away."""
        task = asyncio.create_task(change)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)
