from collections.abc import Callable
from contextlib import closing

import numpy as np
import psutil
import pytest

from dgm_core.manifest import DataSpec, Manifest
from dgm_core.memories import new_manifest
from memory_server.learning.admission import IngestBudget
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.gate import Gate
from memory_server.learning.queue import TaskQueue
from memory_server.learning.status import TaskStatus
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskRecord
from tests.memory_server.learning.fakes import NOTHING, Teacher, Witness


@pytest.fixture
def spec() -> DataSpec:
    return DataSpec((1, 8, 8), "uint8")


@pytest.fixture
def manifest(spec) -> Manifest:
    """A memory so small that a task of ten steps takes seconds."""
    return new_manifest("dgmw", {"width": "4", "noise": "8"}, spec, seed=7)


@pytest.fixture
def admission() -> IngestBudget:
    return IngestBudget(limit=1 << 22, max_queue=16)


@pytest.fixture
def rows(admission, spec) -> Callable[..., IngestBuffer]:
    """A buffer with images of two classes, 40 unless told otherwise."""

    def buffer(count: int = 40) -> IngestBuffer:
        filled = IngestBuffer(spec, admission.reserve())
        x = np.random.default_rng(0).integers(0, 256, (count, *spec.shape), dtype=np.uint8)
        filled.append(x.tobytes(), np.arange(count, dtype=np.int32) % 2)
        return filled

    return buffer


@pytest.fixture
def gate():
    with closing(Gate(1)) as gate:
        yield gate


@pytest.fixture
def store(tmp_path):
    with DataDir(tmp_path / "data") as store:
        yield store


@pytest.fixture
def workers() -> Callable[[], list[psutil.Process]]:
    """The worker processes that this process has now."""

    def found() -> list[psutil.Process]:
        children = psutil.Process().children()
        return [child for child in children if "memory_server.learning.worker" in child.cmdline()]

    return found


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def commits(witness) -> list[tuple[str, Manifest]]:
    return witness.commits


@pytest.fixture
def teacher() -> Teacher:
    return Teacher()


@pytest.fixture
async def queue(store, teacher, witness):
    queue = TaskQueue(store, teacher, witness, heartbeat=0.05)
    yield queue
    await queue.close()


@pytest.fixture
def submit(manifest, rows):
    """Sends a task of 40 rows and returns its status and its buffer."""

    async def submit(queue, task, memory="digits", digest="d0", terms=NOTHING) -> tuple[TaskStatus, object]:
        buffer = rows()
        record = TaskRecord(memory, task, (0, 1), 40, digest)
        return await queue.submit(record, buffer, terms, manifest), buffer

    return submit
