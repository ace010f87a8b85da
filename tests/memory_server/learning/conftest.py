from collections.abc import Callable

import numpy as np
import psutil
import pytest

from dgm_core.memories import new_manifest
from dgm_core.memory import DataSpec, Manifest
from memory_server.learning.admission import IngestBudget
from memory_server.learning.buffer import IngestBuffer
from memory_server.store.datadir import DataDir


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
