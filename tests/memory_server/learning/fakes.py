"""An executor that a test conducts, an audience that takes notes, and how to wait for what becomes of tasks."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dgm_core.manifest import ExpertEntry, Learned, Manifest, Shared, TaskEntry
from dgm_core.memories.dgmw import DGMw
from dgm_core.memory import Progress, Terms
from memory_server.learning.errors import Interrupted
from memory_server.learning.messages import Job, Renewal
from memory_server.learning.queue import TaskQueue
from memory_server.learning.status import TaskStatus
from memory_server.store.checkpoints import Slot
from memory_server.store.records import TaskState

NOTHING = Terms()


@dataclass
class Teacher:
    """An executor that the test conducts: each task learns until it is told how it ends.

    The retraining of a solver is the lesson "solver of" and the tasks that are left, sleep the lesson "sleep of" them.
    """

    started: list[str] = field(default_factory=list)
    lessons: dict[str, asyncio.Future] = field(default_factory=dict)
    reports: dict[str, Callable[[Progress], None]] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    slots: dict[str, Slot | None] = field(default_factory=dict)
    entries: tuple[TaskEntry, ...] = ()

    async def learn(self, job: Job, data, report) -> Learned:
        assert os.fstat(data.x_fd).st_size == job.count * 64
        self.reports[job.task] = report
        self.revisions[job.task] = job.manifest.revision
        self.slots[job.task] = job.slot
        self.lessons[job.task] = asyncio.get_running_loop().create_future()
        self.started.append(job.task)
        return await self.lessons[job.task]

    def wind_down(self) -> None:
        for lesson in self.lessons.values():
            lesson.set_exception(Interrupted())

    async def renew(self, how: Renewal, manifest: Manifest, report) -> Shared:
        what = {Renewal.SOLVER: "solver of", Renewal.SLEEP: "sleep of"}[how]
        name = " ".join([what, *(entry.task for entry in manifest.tasks)])
        self.reports[name] = report
        self.entries = manifest.tasks
        self.lessons[name] = asyncio.get_running_loop().create_future()
        self.started.append(name)
        return await self.lessons[name]

    async def restores(self, *tasks: str) -> None:
        name = " ".join(["solver of", *tasks])
        await self.teaches(name)
        digest = hashlib.sha256(name.encode()).hexdigest()
        self.lessons.pop(name).set_result(Shared({"solver": digest}, {digest: name.encode()}))

    async def sleeps(self, *tasks: str) -> None:
        """Consolidates tasks into one blob, beside a new solver."""
        name = " ".join(["sleep of", *tasks])
        await self.teaches(name)
        content = {"solver": f"solver after {name}".encode(), "long": name.encode()}
        digests = {role: hashlib.sha256(content[role]).hexdigest() for role in content}
        revised = tuple(replace(entry, blob=digests["long"], consolidated=True) for entry in self.entries)
        blobs = {digests[role]: content[role] for role in content}
        self.lessons.pop(name).set_result(Shared({"solver": digests["solver"]}, blobs, revised))

    async def teaches(self, task: str) -> None:
        async with asyncio.timeout(10):
            while task not in self.lessons:
                await asyncio.sleep(0.001)

    async def succeed(self, task: str, reuses: tuple[str, ...] = ()) -> None:
        await self.teaches(task)
        self.lessons.pop(task).set_result(learned(task, self.revisions[task], reuses))

    async def fail(self, task: str, error: Exception) -> None:
        await self.teaches(task)
        self.lessons.pop(task).set_exception(error)


class Drowsy(DGMw):
    """Holds tasks apart, and has to sleep once it holds two."""

    kind = "drowsy"
    sleeps = True

    @classmethod
    def drowsy(cls, manifest: Manifest) -> bool:
        return sum(not entry.consolidated for entry in manifest.tasks) >= 2


@dataclass
class Witness:
    """Notes what it is told."""

    commits: list[tuple[str, Manifest]] = field(default_factory=list)
    losses: list[tuple[str, Manifest]] = field(default_factory=list)
    deletions: list[str] = field(default_factory=list)

    def committed(self, memory, manifest):
        self.commits.append((memory, manifest))

    async def forgotten(self, memory, forgotten):
        self.losses.append((memory, forgotten.manifest))

    async def deleted(self, memory, deleted):
        self.deletions.append(memory)


def learned(task: str, revision: int, reuses: tuple[str, ...] = ()) -> Learned:
    """What a task leaves that was learned on a revision: its own blob and a solver."""
    blob, solver = (hashlib.sha256(content).hexdigest() for content in (task.encode(), b"solver " + task.encode()))
    entry = TaskEntry(task, blob, (ExpertEntry("e" * 64, (0, 1), (20, 20)),), 0.9, 10, 2.0, reuses=reuses)
    return Learned(entry, {"solver": solver}, {blob: task.encode(), solver: b"solver " + task.encode()}, revision)


async def finished(queue: TaskQueue, task: str, memory: str = "digits") -> TaskStatus:
    async with asyncio.timeout(60):
        *_, last = [status async for status in queue.watch(memory, task)]
    return last


async def seen(queue: TaskQueue, task: str, state: TaskState) -> None:
    async with asyncio.timeout(60):
        async for status in queue.watch("digits", task):
            if status.record.state is state:
                return


async def restored(store, memory="digits") -> Manifest:
    async with asyncio.timeout(10):
        while not (manifest := store.catalog.manifest(memory)).complete:
            await asyncio.sleep(0.001)
    return manifest
