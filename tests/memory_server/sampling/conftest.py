import pytest
import torch

from dgm_core.manifest import DataSpec
from dgm_core.memories import load_memory, new_manifest
from dgm_core.memory import TaskData, Terms


@pytest.fixture(scope="session")
def learned():
    """A memory of two quickly learned tasks, of classes 0, 1 and 2, 3: its revisions, and all blobs."""
    manifest, blobs = new_manifest("dgmw", {"width": "4", "noise": "8"}, DataSpec((1, 8, 8), "uint8"), seed=7), {}
    revisions = [manifest]
    source = torch.Generator().manual_seed(0)
    for task, classes in (("t0", (0, 1)), ("t1", (2, 3))):
        x = torch.randint(0, 256, (40, 1, 8, 8), generator=source, dtype=torch.uint8)
        result = load_memory(manifest, blobs).learn(
            TaskData(x, torch.arange(40) % 2, classes),
            task=task,
            terms=Terms(steps=4),
            report=lambda progress: None,
            device=torch.device("cpu"),
        )
        manifest, blobs = manifest.commit(result), {**blobs, **result.blobs}
        revisions.append(manifest)
    return revisions, blobs
