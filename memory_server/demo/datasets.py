"""Data of the demo: scikit-learn's handwritten digits, or MNIST from its four files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from memory_client.files import read_mnist
from numpy.typing import NDArray

TEST_SHARE = 0.25
NAMES = ("digits", "mnist")


@dataclass(frozen=True)
class Part:
    """Labelled images.

    Arguments:
        x: uint8 (n, 1, height, width).
        y: int64 (n,), the digit.
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]

    def of(self, classes: tuple[int, ...]) -> "Part":
        """Only the examples of some classes."""
        rows = np.isin(self.y, classes)
        return Part(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class Dataset:
    """Images to learn from and images to be tested on."""

    train: Part
    test: Part


def load(name: str, folder: Path | None, seed: int) -> Dataset:
    """The data set `name`.

    Arguments:
        name: "digits" (1797 images of 8 × 8, split by `seed`) or "mnist" (70 000 of 28 × 28, in its own split).
        folder: where the files of MNIST lie.

    Raises:
        ValueError: the name or the folder is wrong; says which files are wanted.
    """
    if name == "digits":
        return _digits(seed)
    if name == "mnist":
        return _mnist(folder)
    raise ValueError(f"there is no data set {name!r}; choose one of {', '.join(NAMES)}")


def tasks_of(classes: int = 10, per_task: int = 2) -> list[tuple[int, ...]]:
    """Classes task by task: (0, 1), (2, 3), …"""
    return [tuple(range(first, min(first + per_task, classes))) for first in range(0, classes, per_task)]


def _digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - heavy, and only this data set needs it

    raw = load_digits()
    x = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]
    order = np.random.default_rng(seed).permutation(len(x))
    test = round(TEST_SHARE * len(x))
    y = raw.target.astype(np.int64)
    return Dataset(Part(x[order[test:]], y[order[test:]]), Part(x[order[:test]], y[order[:test]]))


def _mnist(folder: Path | None) -> Dataset:
    if folder is None:
        raise ValueError("--dataset mnist needs --data DIR with the four MNIST files")

    def part(prefix: str) -> Part:
        images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        return Part(*read_mnist(_find(folder, images), _find(folder, labels)))

    return Dataset(part("train"), part("t10k"))


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise ValueError(f"{folder} holds neither {name} nor {name}.gz; --data names the folder with the four MNIST files")
