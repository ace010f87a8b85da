import hashlib
from collections.abc import Callable

import pytest

from dgm_core.manifest import DataSpec, ExpertEntry, Learned, Manifest, TaskEntry
from memory_server.store.records import TaskRecord


@pytest.fixture
def manifest() -> Manifest:
    return Manifest("dgmw", {"seed": "7"}, DataSpec((1, 8, 8), "uint8"))


@pytest.fixture
def learn() -> Callable[..., Learned]:
    """What a task leaves behind: its own blob, and optionally a new solver shared by the memory."""

    def learned(
        task: str,
        content: bytes,
        solver: bytes | None = None,
        reuses: tuple[str, ...] = (),
        expert: str = "e" * 64,
        revision: int = 0,
    ) -> Learned:
        blob = hashlib.sha256(content).hexdigest()
        experts = (ExpertEntry(expert, (0, 1), (5, 6)),)
        entry = TaskEntry(task, blob, experts, quality=0.9, steps=10, seconds=1.5, reuses=reuses)
        blobs = {blob: content}
        if solver is None:
            return Learned(entry, {}, blobs, revision)
        digest = hashlib.sha256(solver).hexdigest()
        return Learned(entry, {"solver": digest}, {**blobs, digest: solver}, revision)

    return learned


@pytest.fixture
def record() -> Callable[..., TaskRecord]:
    def task(name: str, digest: str = "d0", memory: str = "digits") -> TaskRecord:
        return TaskRecord(memory, name, classes=(0, 1), count=11, digest=digest)

    return task
