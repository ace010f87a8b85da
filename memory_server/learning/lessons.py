"""The tasks that are not final yet: what becomes of each from its admission to its end, which is always recorded."""

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, astuple, replace

import structlog
import torch

from dgm_core.manifest import Learned, Manifest
from dgm_core.memory import Progress, Terms
from memory_server.learning.audience import tell
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.endings import CANCELLED, GOES_ON, SERVER_STOPPED, Ending, failure
from memory_server.learning.errors import logged
from memory_server.learning.messages import Job
from memory_server.learning.setting import Setting
from memory_server.learning.status import TaskStatus
from memory_server.learning.work import Key, Lesson
from memory_server.store.checkpoints import CheckpointStore
from memory_server.store.errors import NotForgotten
from memory_server.store.records import TaskRecord, TaskState

_TYPICAL_SECONDS = 60.0


class Lessons:
    """Tasks that wait or learn. Belongs to the queue that runs them.

    Arguments:
        setting: what they are a part of.
        checkpoints: of what is being trained.
        committed: told of each memory that has learned a task, before anybody else is.

    Attributes:
        typical_seconds: that a task takes, by those that were learned here.
    """

    def __init__(
        self, setting: Setting, checkpoints: CheckpointStore, committed: Callable[[str, Manifest], None]
    ) -> None:
        self._setting = setting
        self._checkpoints = checkpoints
        # A server that was killed may have ended a task and not come to remove what was left of its training.
        checkpoints.keep_only(setting.store.catalog.failed(GOES_ON))
        self._committed = committed
        self._entries: dict[Key, Lesson] = {}
        self.typical_seconds = _TYPICAL_SECONDS

    def get(self, memory: str, task: str) -> Lesson | None:
        """A task that is not final, or whose end is not recorded yet."""
        return self._entries.get((memory, task))

    @property
    def busy(self) -> bool:
        """Whether any task waits or learns."""
        return any(not entry.done.is_set() for entry in self._entries.values())

    def add(self, admitted: TaskRecord, buffer: IngestBuffer, terms: Terms, alone: bool) -> Lesson:
        """Has a task wait for its turn."""
        entry = Lesson(admitted, buffer, terms, alone, self._setting.observer.changed)
        self._entries[entry.key] = entry
        self._setting.schedule.add(entry.memory, entry)
        return entry

    async def run(self, entry: Lesson) -> None:
        """Brings a task that has its turn to its end; whoever gave it the turn says that it is done."""
        self._finish(entry, await self._teach(entry))

    async def stop(self, entry: Lesson, end: Ending) -> None:
        """Brings a task to a final state: the given one, or LEARNED if its commit has begun.

        Of several at one time, the first decides.
        """
        if entry.verdict is None and not entry.done.is_set():
            entry.verdict = end
            if entry.runner is None:
                self._setting.schedule.remove(entry.memory, entry)
                await asyncio.to_thread(entry.buffer.wipe)
                self._finish(entry, await self._record(entry, end))
                entry.done.set()
            elif entry.doing is not None:
                entry.doing.cancel()
        await entry.done.wait()

    async def stop_all(self, end: Ending, memory: str | None = None) -> None:
        """Brings all tasks to an end, or those of one memory."""
        for entry in self._of(memory):
            await self.stop(entry, end)

    def let_go(self, memory: str) -> None:
        """Knows no more of the tasks of a memory that is deleted, and of their checkpoints."""
        self._checkpoints.drop(memory)
        for entry in self._of(memory):
            del self._entries[entry.key]

    def forget(self, memory: str, task: str) -> None:
        """Removes what is left of the training of a task that is gone."""
        self._checkpoints.drop(memory, task)

    def forget_all(self, memory: str) -> None:
        """Removes what is left of training upon a task that is about to go: it holds weights of that one, too.

        Nothing goes on from it any more: another revision is another attempt.

        Raises:
            NotForgotten: the disk does not let it go.
        """
        if not self._checkpoints.drop(memory):
            raise NotForgotten("a checkpoint of the memory, which may hold parts of the task, cannot be removed")

    async def put_down(self, grace: float, running: Iterable[Lesson]) -> None:
        """Has workers put down their training, if it is put down at all, within so many seconds."""
        runners = [entry.runner for entry in running if entry.runner is not None]
        if self._checkpoints.kept and runners:
            self._setting.executor.wind_down()
            await asyncio.wait(runners, timeout=grace)

    async def record_late(self, memory: str, task: str) -> None:
        """Waits for the end of a task that is being stopped; records it if that failed then, as on a full disk."""
        entry = self.get(memory, task)
        if entry is not None and entry.verdict is not None:
            await entry.done.wait()
        if entry is not None and entry.unrecorded is not None:
            await asyncio.to_thread(self._setting.store.set_state, *entry.key, *astuple(entry.unrecorded))
            del self._entries[entry.key]

    async def _teach(self, entry: Lesson) -> TaskRecord:
        try:
            learned = await self._learn(entry)
            if entry.verdict is CANCELLED:  # while its data was being wiped
                raise asyncio.CancelledError
            return await self._commit(entry, learned)
        except asyncio.CancelledError:
            return await self._record(entry, entry.verdict or SERVER_STOPPED)
        except Exception as error:
            return await self._record(entry, failure(error, *entry.key))

    async def _learn(self, entry: Lesson) -> Learned:
        try:
            await self._move(entry, TaskState.LEARNING)
            manifest = await asyncio.to_thread(self._setting.store.catalog.manifest, entry.memory)
            if entry.verdict is not None:
                raise asyncio.CancelledError
            job = self._job(entry, manifest)
            report = self._reporter(entry)
            entry.doing = asyncio.create_task(self._setting.executor.learn(job, entry.buffer, report))
            return await entry.doing
        finally:
            await asyncio.to_thread(entry.buffer.wipe)

    def _job(self, entry: Lesson, manifest: Manifest) -> Job:
        record = entry.record
        attempt = json.dumps([record.digest, asdict(entry.terms), manifest.to_json(), torch.__version__])
        slot = self._checkpoints.slot(record.memory, record.task, attempt)
        return Job(manifest, record.task, record.classes, record.count, entry.terms, slot)

    def _reporter(self, entry: Lesson) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            entry.live.set(TaskStatus(entry.record, progress=progress))
            self._setting.progressed()

        return report

    async def _commit(self, entry: Lesson, learned: Learned) -> TaskRecord:
        memory, task = entry.key
        await self._move(entry, TaskState.COMMITTING)
        committed = await asyncio.to_thread(self._setting.store.commit, memory, task, learned)
        self.typical_seconds += 0.5 * (learned.entry.seconds - self.typical_seconds)
        self._committed(memory, committed.manifest)
        await tell(self._setting.audience, memory, committed)
        return committed.task

    async def _move(self, entry: Lesson, state: TaskState) -> None:
        entry.live.set(TaskStatus(replace(entry.record, state=state)))
        await asyncio.to_thread(self._setting.store.set_state, *entry.key, state)

    async def _record(self, entry: Lesson, end: Ending) -> TaskRecord:
        try:
            return await asyncio.to_thread(self._setting.store.set_state, *entry.key, *astuple(end))
        except Exception as problem:  # A task must end for those who wait, even if the disk is full.
            memory, task = entry.key
            structlog.get_logger().error("a task's end was not recorded", memory=memory, task=task, **logged(problem))
            entry.unrecorded = end
            return replace(entry.record, **asdict(end))

    def _finish(self, entry: Lesson, record: TaskRecord) -> None:
        if record.error_reason not in GOES_ON:
            self._checkpoints.drop(*entry.key)
        entry.live.set(TaskStatus(record))
        if entry.unrecorded is None:
            del self._entries[entry.key]

    def _of(self, memory: str | None) -> list[Lesson]:
        return [entry for entry in self._entries.values() if memory in (None, entry.memory)]
