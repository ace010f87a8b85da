import hashlib
from collections.abc import Callable

import pytest

from dgm_core.memory import DataSpec, ExpertEntry, Learned, Manifest, TaskEntry
from memory_server.store.records import TaskRecord


@pytest.fixture
def manifest() -> Manifest:
    return Manifest("dgmw", {"seed": "7"}, DataSpec((1, 8, 8), "uint8"))


@pytest.fixture
def learn() -> Callable[..., Learned]:
    """What a task leaves behind: its own blob, and optionally a new solver shared by the memory."""

    def learned(task: str, content: bytes, solver: bytes | None = None) -> Learned:
        blob = hashlib.sha256(content).hexdigest()
        entry = TaskEntry(task, blob, (ExpertEntry("e" * 64, (0, 1), (5, 6)),), quality=0.9, steps=10, seconds=1.5)
        blobs = {blob: content}
        if solver is None:
            return Learned(entry, {}, blobs)
        digest = hashlib.sha256(solver).hexdigest()
        return Learned(entry, {"solver": digest}, {**blobs, digest: solver})

    return learned


@pytest.fixture
def record() -> Callable[..., TaskRecord]:
    def task(name: str, digest: str = "d0", memory: str = "digits") -> TaskRecord:
        return TaskRecord(memory, name, classes=(0, 1), count=11, digest=digest)

    return task
