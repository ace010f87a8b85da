"""The learner's own classifier: an ordinary PyTorch loop that knows nothing of the memory behind its batches."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


def fresh(classes: int, seed: int) -> nn.Sequential:
    """A small convolutional classifier for grey images of any size."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveMaxPool2d(4),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(1024, classes),
    )  # fmt: skip


def train(batches: Iterator[Batch], classes: int, steps: int, seed: int) -> nn.Sequential:
    """A fresh classifier after `steps` batches of (uint8 images, labels)."""
    network = fresh(classes, seed).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _, (x, y) in zip(range(steps), batches, strict=False):
        loss = nn.functional.cross_entropy(network(_images(x)), torch.from_numpy(y))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return network.eval()


@torch.inference_mode()
def accuracy(network: nn.Sequential, x: NDArray[np.uint8], y: NDArray[np.int64]) -> float:
    """Share of (x, y) that is labelled correctly, over all classes of the single head."""
    guesses = torch.cat([network(_images(part)).argmax(dim=1) for part in np.array_split(x, 1 + len(x) // 1000)])
    return float((guesses.numpy() == y).mean())


def endless(x: NDArray[np.uint8], y: NDArray[np.int64], size: int, seed: int) -> Iterator[Batch]:
    """Random batches of real data, class by class equally often, for ever."""
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(y == label) for label in np.unique(y)]
    while True:
        chosen = np.array([rng.choice(rows[i % len(rows)]) for i in rng.permutation(size)])
        yield x[chosen], y[chosen]


def _images(x: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(x).float().div(127.5).sub(1)
