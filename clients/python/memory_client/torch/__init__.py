"""Replay for PyTorch: a data set for DataLoader, and a loader of real data mixed with what a memory knows.

from memory_client import Memory
from memory_client.torch import ReplayDataset, mixed

memory = Memory("localhost:50051", name="digits")
replay = DataLoader(ReplayDataset(memory, batch_size=128, n=60_000), batch_size=None, num_workers=2)
for x, y in mixed(loader, memory, replay=0.5): ...

Needs torch, which nothing else of `memory_client` imports.
"""

from memory_client.torch.dataset import ReplayDataset
from memory_client.torch.mixing import Mixed, mixed

__all__ = ["Mixed", "ReplayDataset", "mixed"]
