"""Whether what a memory serves can be derived from its blobs, to the bit."""

import torch

from dgm_core.manifest import Blobs, Manifest
from dgm_core.memories import load_memory


def check_experts(manifest: Manifest, blobs: Blobs) -> None:
    """Derives every expert of a revision, and its solver, and compares digests; seconds for tens of tasks.

    Raises:
        Exception: of whatever kind, if anything is not as the manifest says.
    """
    with torch.no_grad():
        memory = load_memory(manifest, blobs)
        for _, expert in manifest.experts():
            memory.expert(expert.digest)
        if manifest.tasks and manifest.complete:
            memory.solver()
