"""What training data is worth: the accuracy of a fresh classifier on the real test images of all classes so far."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from memory_client import Memory
from memory_client.types import Precision
from torch import Tensor

from dgm_core.training.batches import BalancedBatches, to_range
from harness import classifier
from harness.classifier import Batches, Setting
from harness.tables import JOINT, MEMORY, NEWEST_ONLY, REDUCED
from memory_server.demo.datasets import Dataset, Part

Classes = tuple[int, ...]


class Judge:
    """Trains the same classifier on the data of each row of the table.

    Arguments:
        memory: gives samples.
        examples: real data.
        setting: of the classifier.
        seed: of the classifier, the order of real data and the samples.
        device: to train on.
    """

    def __init__(self, memory: Memory, examples: Dataset, setting: Setting, seed: int, device: torch.device) -> None:
        self._memory, self._examples, self._setting = memory, examples, setting
        self._seed, self._device = seed, device

    def accuracy(self, row: str, seen: Classes, newest: Classes) -> float:
        """Accuracy in [0, 1] over all classes seen, with one head.

        Arguments:
            row: what it is trained on, one of `tables.ROWS`.
            seen: all classes so far, which are 0, 1, 2 and so on.
            newest: those of the newest task.
        """
        channels = self._examples.test.x.shape[1]
        batches = self._batches(row, seen, newest)
        network = classifier.train(batches, channels, len(seen), self._setting, self._seed, self._device)
        return classifier.accuracy(network, *tensors(self._examples.test.of(seen)))

    def about(self, row: str, seen: Classes, newest: Classes) -> dict[str, Any]:
        """All that the accuracy of a row depends on, but for the memory and the data set, as JSON gives it back."""
        return {
            "row": row,
            "classes": len(seen),
            "trained_on": list(newest if row == NEWEST_ONLY else seen),
            "classifier": asdict(self._setting),
            "classified_on": self._device.type,
        }

    def _batches(self, row: str, seen: Classes, newest: Classes) -> Batches:
        size = self._setting.batch
        if row == JOINT:
            return self._real(seen, size)
        if row == NEWEST_ONLY:
            return self._real(newest, size)
        if row == MEMORY:
            return self._replayed(seen, size)
        if row == REDUCED:
            return self._replayed(seen, size, "reduced")
        share = round(size * len(newest) / len(seen))
        return _joined(self._real(newest, share), self._replayed(seen[: -len(newest)], size - share))

    def _real(self, classes: Classes, size: int) -> Batches:
        """Endless batches of real data, every class equally often; the classes follow each other."""
        x, y = (tensor.to(self._device) for tensor in tensors(self._examples.train.of(classes)))
        batches = BalancedBatches(x, y - classes[0], len(classes))
        while True:
            images, labels = batches.draw(size)
            yield images, labels + classes[0]

    def _replayed(self, classes: Classes, size: int, precision: Precision = "full") -> Batches:
        with self._memory.stream(list(classes), size, seed=self._seed, precision=precision) as samples:
            for x, y in samples:
                yield to_range(torch.from_numpy(x).to(self._device)), torch.from_numpy(y).to(self._device)


def tensors(part: Part) -> tuple[Tensor, Tensor]:
    """Images (n, C, H, W) as uint8, and labels (n,)."""
    return torch.from_numpy(np.array(part.x)), torch.from_numpy(part.y)


def _joined(first: Batches, second: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    for (x, y), (x_other, y_other) in zip(first, second, strict=False):
        yield torch.cat([x, x_other]), torch.cat([y, y_other])
