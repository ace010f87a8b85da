"""A storm of kills: memories of one server learn, forget and move; at random instants it or a worker is killed."""

import hashlib
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import psutil
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory, MemoryServiceError

Key = tuple[str, str]
"""(memory, task)."""

SEEDED = {"n": 32, "batch_size": 16, "seed": 2026}
MOST_KEPT = 8
"""Tasks of all memories together, so that a storm takes as long at its end as at its begin."""

MOVED = "moved"
"""The memory that another one is imported as."""

PATIENCE = 20.0
"""Seconds in which a worker ends that has just been started, on a machine that has much else to do."""


@dataclass(frozen=True)
class Deed:
    """Something that is done to a task, and when whoever does it may be killed.

    Arguments:
        do: returns whether it was reported as done.
        window: opens when this is true.
        delay: seconds after that at which it is killed at the latest.
        fresh: whether it is done to a task that is not there yet.
        keeps: whether the task is learned afterwards, rather than gone.
        victims: who may be killed.
    """

    do: Callable[["Storm", Key], bool]
    window: Callable[["Storm"], bool]
    delay: float
    fresh: bool = True
    keeps: bool = True
    victims: tuple[str, ...] = ("server",)


def learn(storm: "Storm", key: Key) -> bool:
    storm.wire.submit(*key, **storm.header(key))
    return storm.wire.final(*key).state == pb.LEARNED


def forget(storm: "Storm", key: Key) -> bool:
    storm.wire.stub.ForgetTask(pb.ForgetTaskRequest(memory=key[0], task=key[1]), timeout=60)
    return True


def move(storm: "Storm", key: Key) -> bool:
    path = storm.server.data_dir.parent / "exported"
    with Memory(storm.server.target, key[0], reconnect=0) as memory:
        memory.export(path)
    Memory.import_file(storm.server.target, path, MOVED, reconnect=0).close()
    return True


DEEDS = {
    "ingest": Deed(learn, lambda storm: True, 0.05),
    "training": Deed(learn, lambda storm: bool(storm.workers()), 2.0, victims=("server", "worker")),
    "checkpoint": Deed(learn, lambda storm: bool(storm.checkpoints()), 0.05, victims=("server", "worker")),
    "commit": Deed(learn, lambda storm: storm.writes(), 0.03),
    "export": Deed(move, lambda storm: True, 0.05, fresh=False),
    "import": Deed(move, lambda storm: storm.imports(), 0.1, fresh=False),
    "forget": Deed(forget, lambda storm: True, 0.03, fresh=False, keeps=False),
}
"""One line for each verb that changes something."""


def _checkpoint_of(key: Key) -> str:
    """How the names of its files begin; written apart from the server's own."""
    return "".join(hashlib.sha256(name.encode()).hexdigest()[:32] + "-" for name in key)


@dataclass
class Storm:
    """What is known of the server's memories, and what is done to them.

    Arguments:
        server: that is killed and started again.
        connect: makes clients of it.
        source: of all that is random.
        kinds: memory -> what its headers say.

    Attributes:
        kept: committed tasks, and the digest of their seeded samples.
        deaths: how often who was killed during what.
        put_down: how often a checkpoint was left.
        starts: seconds that each start took.
        ends: seconds for which workers outlived their server.
    """

    server: Any
    connect: Callable[[Any], Any]
    source: random.Random
    kinds: dict[str, dict[str, Any]]
    kept: dict[Key, str] = field(default_factory=dict)
    deaths: list[str] = field(default_factory=list)
    put_down: int = 0
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    _lost: list[Key] = field(default_factory=list)
    _number: int = 0
    _files: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._start()

    def round(self, name: str) -> None:
        """Does one thing, kills somebody meanwhile, and looks at what is left."""
        deed = DEEDS[name]
        if not deed.fresh and not self.kept:
            key = self._fresh()
            assert learn(self, key)
            self.kept[key] = self.digest(key)
        if deed.fresh and len(self.kept) >= MOST_KEPT:
            name, deed = "forget", DEEDS["forget"]
        key = self._fresh() if deed.fresh else self.source.choice(sorted(self.kept))
        victim = self.source.choice(deed.victims)
        reported = self._interrupted(deed, key, victim)
        self.deaths.append(f"{victim} at {name}")
        self._check(deed, key, reported)

    def header(self, key: Key) -> dict[str, Any]:
        """What the lesson of a task says; sent again, it says the same."""
        first = 2 * int(key[1].removeprefix("t"))
        return {"classes": (first, first + 1), "erasable": True, **self.kinds[key[0]]}

    def digest(self, key: Key) -> str:
        """Of the seeded sample of a task."""
        return hashlib.sha256(self.wire.sample(key[0], tasks=[key[1]], **SEEDED).x).hexdigest()

    def workers(self) -> list[psutil.Process]:
        """That learn now."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.server.process.pid).children()
            return [child for child in children if "memory_server.learning.worker" in child.cmdline()]
        return []

    def writes(self) -> bool:
        """Whether there are files of blobs that were not there when the deed began."""
        return not self._blobs() <= self._files

    def checkpoints(self) -> set[str]:
        """Files of trainings that were put down."""
        return {path.name for path in self.server.data_dir.glob("checkpoints/*")}

    def imports(self) -> bool:
        """Whether a memory is arriving."""
        return any(self.server.data_dir.glob("arrivals/**/*"))

    def _interrupted(self, deed: Deed, key: Key, victim: str) -> bool:
        """Does something, kills the victim in its window, and says whether it was reported as done all the same."""
        reported: list[bool] = []
        self._files = self._blobs()

        def act() -> None:
            with suppress(grpc.RpcError, MemoryServiceError):
                reported.append(deed.do(self, key))

        acting = threading.Thread(target=act)
        acting.start()
        while acting.is_alive() and not deed.window(self):
            time.sleep(0.001)
        time.sleep(self.source.uniform(0, deed.delay))
        if victim == "worker":
            self._kill_a_worker()
        else:
            self._kill_the_server()
        acting.join()
        return any(reported)

    def _kill_a_worker(self) -> None:
        for worker in self.workers()[:1]:
            with suppress(psutil.NoSuchProcess):
                worker.kill()

    def _kill_the_server(self) -> None:
        working = self.workers()
        self.server.stop(signal.SIGKILL)
        killed = time.monotonic()
        while not all(map(ended, working)):
            assert time.monotonic() - killed < PATIENCE, "a worker outlived its server"
            time.sleep(0.005)
        if working:
            self.ends.append(time.monotonic() - killed)
        self.wire.close()
        self._start()

    def _start(self) -> None:
        began = time.monotonic()
        self.wire = self.connect(self.server.start())
        self.starts.append(time.monotonic() - began)

    def _check(self, deed: Deed, key: Key, reported: bool) -> None:
        """All that was committed is there, to the bit; of the task in question either all or nothing; and no debris."""
        self._look_at_what_moved(key[0])
        states = self._states()
        learned = {each for each, task in states.items() if task.state == pb.LEARNED}
        before = self.kept.pop(key, None)
        assert set(self.kept) <= learned, f"lost: {set(self.kept) - learned}"
        assert learned - set(self.kept) <= {key}, f"came back: {learned - set(self.kept)}"
        assert not (reported or (not deed.fresh and deed.keeps)) or (key in learned) == deed.keeps
        for each, digest in self.kept.items():
            assert self.digest(each) == digest, f"{each} changed"
        if key in learned:
            self.kept[key] = self.digest(key)
            assert before in (None, self.kept[key]), f"{key} changed"
        elif deed.keeps:
            self._lost.append(key)
        failed = [task for each, task in states.items() if each not in learned]
        assert all(task.state == pb.FAILED and "again" in task.error for task in failed), failed
        self._assert_no_debris()
        self._assert_no_checkpoint_but_of(set(states) - learned)

    def _look_at_what_moved(self, origin: str) -> None:
        """A memory that was imported is the one that was exported, or is not there."""
        moved = {key: self.digest(key) for key in self._states() if key[0] == MOVED}
        assert moved == {} or moved == {(MOVED, key[1]): kept for key, kept in self.kept.items() if key[0] == origin}
        if moved:
            self.wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=MOVED), timeout=60)

    def _assert_no_debris(self) -> None:
        deadline = time.monotonic() + 60
        while (files := self._blobs()) != (named := self._named()):  # a solver may be being stored just now
            assert time.monotonic() < deadline, f"in files and catalog differ {files ^ named}"
            time.sleep(0.05)

    def _assert_no_checkpoint_but_of(self, failed: set[Key]) -> None:
        """What is left of a training belongs to a task that may go on, and has a name that tells nothing."""
        self.put_down += bool(self.checkpoints())
        strangers = {name for name in self.checkpoints() if not name.startswith(tuple(map(_checkpoint_of, failed)))}
        assert not strangers, f"checkpoints of nothing that failed: {strangers}"

    def _states(self) -> dict[Key, pb.Task]:
        stub = self.wire.stub
        memories = stub.ListMemories(pb.ListMemoriesRequest(), timeout=60).memories
        lists = [stub.ListTasks(pb.ListTasksRequest(memory=one.name), timeout=60).tasks for one in memories]
        return {(task.memory, task.task): task for tasks in lists for task in tasks}

    def _fresh(self) -> Key:
        """A task to learn: one that was lost, sent again, or a new one."""
        if self._lost:
            return self._lost.pop()
        self._number += 1
        return self.source.choice(sorted(self.kinds)), f"t{self._number}"

    def _blobs(self) -> set[str]:
        return {path.name for path in self.server.data_dir.glob("blobs/??/*")}

    def _named(self) -> set[str]:
        with closing(sqlite3.connect(f"file:{self.server.data_dir}/catalog.sqlite?mode=ro", uri=True)) as catalog:
            return {digest for (digest,) in catalog.execute("SELECT digest FROM blobs")}


def ended(process: psutil.Process) -> bool:
    """Whether it runs no longer. One whose server is gone is for the system's first process to reap, in its time."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True
