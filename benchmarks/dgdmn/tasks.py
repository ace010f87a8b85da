"""The paper's three sequences of tasks, made from MNIST  [DGDMN app. B]: images of 28 × 28, labels of one head.

    Permnist  6 tasks: MNIST as it is and with its centre blackened, whitened or shuffled, or mirrored; ten labels
    Digits    10 tasks: one digit each; ten labels
    TDigits   40 tasks: each digit as it is, mirrored, upside down, reflected about the main diagonal; a label per task

The paper does not say whether a transformed digit keeps its label. Here it does not: of Digits the paper says that all
samples of task t have the label t, and only then do the accuracies fall from the eleventh task on, as its figures show.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from harness import data
from numpy.typing import NDArray
from torch import Tensor

from memory_server.demo.datasets import Dataset, Part

Images = NDArray[np.uint8]
Change = Callable[[Images], Images]
DIGITS = 10


@dataclass(frozen=True)
class Examples:
    """Labelled images.

    Arguments:
        x: uint8 (n, 1, 28, 28).
        y: int64 (n,), labels of the single head.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Task:
    """One task: what it is learned from, once, and what it is tested on, ever after."""

    name: str
    train: Examples
    test: Examples


def load(name: str, images: int, seed: int) -> list[Task]:
    """The tasks of one sequence in the paper's order.

    Arguments:
        name: one of `SEQUENCES`.
        images: training images of each task at the most; all test images are taken.
        seed: chooses the training images of Permnist and its permutations.

    Raises:
        MissingData: MNIST is not where it was looked for.
    """
    return SEQUENCES[name](data.load("mnist", seed), images, seed)


def permnist(mnist: Dataset, images: int, seed: int) -> list[Task]:
    """Six tasks of ten digits; every task samples its own training images."""
    source = np.random.default_rng(seed)
    changes: dict[str, Change] = {
        "original": lambda x: x,
        "centre black": _centre(8, np.zeros_like),
        "centre white": _centre(8, lambda patch: np.full_like(patch, 255)),
        "8 × 8 shuffled": _shuffled(8, source),
        "12 × 12 shuffled": _shuffled(12, source),
        "mirrored": _mirrored,
    }
    tasks = []
    for name, change in changes.items():
        rows = source.permutation(len(mnist.train.y))[:images]
        train = Part(mnist.train.x[rows], mnist.train.y[rows])
        tasks.append(_task(name, train, mnist.test, change))
    return tasks


def digits(mnist: Dataset, images: int, seed: int) -> list[Task]:  # noqa: ARG001 - nothing is random
    """Ten tasks, one digit each."""
    return _single(mnist, images, {"": lambda x: x})


def tdigits(mnist: Dataset, images: int, seed: int) -> list[Task]:  # noqa: ARG001 - nothing is random
    """Forty tasks: ten digits, then each transformation of all ten."""
    changes: dict[str, Change] = {
        "": lambda x: x,
        "mirrored ": _mirrored,
        "upside down ": lambda x: x[..., ::-1, :],
        "reflected ": lambda x: x.swapaxes(-1, -2),
    }
    return _single(mnist, images, changes)


SEQUENCES: Mapping[str, Callable[[Dataset, int, int], list[Task]]] = {
    "permnist": permnist,
    "digits": digits,
    "tdigits": tdigits,
}


def _single(mnist: Dataset, images: int, changes: Mapping[str, Change]) -> list[Task]:
    tasks = []
    for turn, (name, change) in enumerate(changes.items()):
        for digit in range(DIGITS):
            train, test = (part.of((digit,)) for part in (mnist.train, mnist.test))
            first = Part(train.x[:images], train.y[:images])
            tasks.append(_task(f"{name}{digit}", first, test, change, DIGITS * turn))
    return tasks


def _task(name: str, train: Part, test: Part, change: Change, first_label: int = 0) -> Task:
    def changed(part: Part) -> Examples:
        return Examples(torch.from_numpy(np.ascontiguousarray(change(part.x))), torch.from_numpy(part.y + first_label))

    return Task(name, changed(train), changed(test))


def _mirrored(x: Images) -> Images:
    return x[..., ::-1]


def _centre(side: int, change: Change) -> Change:
    def changed(x: Images) -> Images:
        start = (x.shape[-1] - side) // 2
        patch = (..., slice(start, start + side), slice(start, start + side))
        copy = x.copy()
        copy[patch] = change(copy[patch])
        return copy

    return changed


def _shuffled(side: int, source: np.random.Generator) -> Change:
    order = source.permutation(side * side)
    return _centre(side, lambda patch: patch.reshape(*patch.shape[:-2], -1)[..., order].reshape(patch.shape))
