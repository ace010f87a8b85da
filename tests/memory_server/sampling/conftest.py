import pytest
import torch

from dgm_core.manifest import DataSpec
from dgm_core.memories import load_memory, new_manifest
from dgm_core.memory import TaskData, Terms


def memory_of(tasks, steps):
    """A memory that has quickly learned tasks, each of some classes: its revisions, and all blobs."""
    manifest, blobs = new_manifest("dgmw", {"width": "4", "noise": "8"}, DataSpec((1, 8, 8), "uint8"), seed=7), {}
    revisions = [manifest]
    source = torch.Generator().manual_seed(0)
    for number, classes in enumerate(tasks):
        x = torch.randint(0, 256, (40, 1, 8, 8), generator=source, dtype=torch.uint8)
        result = load_memory(manifest, blobs).learn(
            TaskData(x, torch.arange(40) % len(classes), classes),
            task=f"t{number}",
            terms=Terms(steps=steps),
            report=lambda progress: None,
            device=torch.device("cpu"),
        )
        manifest, blobs = manifest.commit(result), {**blobs, **result.blobs}
        revisions.append(manifest)
    return revisions, blobs


@pytest.fixture(scope="session")
def learned():
    """Two tasks, of classes 0, 1 and 2, 3."""
    return memory_of([(0, 1), (2, 3)], steps=4)


@pytest.fixture(scope="session")
def six():
    """Six tasks of one class each: a batch of 256 rows has fewer than a tile's of each."""
    return memory_of([(label,) for label in range(6)], steps=1)
