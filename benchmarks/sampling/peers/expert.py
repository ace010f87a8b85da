"""The generator that every peer serves: the same compiled expert, loaded from the same files, on one thread."""

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from dgm_core.experts import FrozenExpert, to_storage
from dgm_core.manifest import Manifest
from dgm_core.memories import load_memory

READY = "peer ready on"


class Images:
    """Images of the first task of a memory.

    Arguments:
        folder: has `manifest.json`, and `blobs/` with files that are named by their digests.
        device: to compute on.
    """

    def __init__(self, folder: Path, device: str) -> None:
        torch.set_num_threads(1)
        manifest = Manifest.from_json((folder / "manifest.json").read_text())
        blobs = {path.name: path.read_bytes() for path in (folder / "blobs").iterdir()}
        expert = load_memory(manifest, blobs).expert(manifest.tasks[0].experts[0].digest)
        assert isinstance(expert, FrozenExpert)
        self._spec, self._device = manifest.spec, torch.device(device)
        self._expert = expert.to(self._device)

    def draw(self, rows: int) -> Tensor:
        """(rows, C, H, W) uint8 on the CPU, of fresh noise."""
        z = torch.randn(rows, self._expert.noise_dim).to(self._device)
        c = torch.arange(rows, device=self._device) % len(self._expert.classes)
        return to_storage(self._expert.generate(z, c), self._spec).cpu()


async def batches(images: Images, rows: int, thread: ThreadPoolExecutor) -> AsyncIterator[bytes]:
    """Batch after batch without end: the next one is computed in a thread while the last one is sent."""

    def draw() -> bytes:
        return images.draw(rows).numpy().tobytes()

    loop = asyncio.get_running_loop()
    ahead = loop.run_in_executor(thread, draw)
    while True:
        batch = await ahead
        ahead = loop.run_in_executor(thread, draw)
        yield batch


def arguments() -> tuple[Path, str, int]:
    """Folder, device and rows of a batch, as the benchmark names them."""
    _, folder, device, rows = sys.argv
    return Path(folder), device, int(rows)
