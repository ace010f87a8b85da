"""The data sets: scikit-learn's digits, or MNIST and CIFAR-10 from the folder that GENERATIVE_MEMORY_DATA names."""

import os
from pathlib import Path

import numpy as np
from memory_client.files import read_parquet

from memory_server.demo import datasets
from memory_server.demo.datasets import Dataset, Part

NAMES = ("digits", "mnist", "cifar10")
FOLDER = "GENERATIVE_MEMORY_DATA"
WANTED = {
    "mnist": "mnist/ with the four IDX files, such as mnist/train-images-idx3-ubyte.gz",
    "cifar10": "cifar10/ with train.parquet and test.parquet (columns img or image, and label)",
}


class MissingData(Exception):
    """The data set is not where it was looked for; the message says what is wanted where."""


def load(name: str, seed: int, images: int | None = None) -> Dataset:
    """A data set of ten classes, 0 to 9.

    Arguments:
        name: one of `NAMES`.
        seed: splits the digits; the others have their own split.
        images: at most so many of each class to learn from, the first ones; None: all.

    Raises:
        MissingData: there is no folder, or the files are not in it.
    """
    whole = datasets.load("digits", None, seed) if name == "digits" else _from_folder(name)
    return whole if images is None else Dataset(_first(whole.train, images), whole.test)


def _from_folder(name: str) -> Dataset:
    given = os.environ.get(FOLDER)
    if not given:
        raise MissingData(f"{name} needs {FOLDER}=DIR, where DIR holds {WANTED[name]}")
    folder = Path(given) / name
    patterns = ("train-images-*", "train-labels-*", "t10k-images-*", "t10k-labels-*")
    if not all(any(folder.glob(p)) for p in (patterns if name == "mnist" else ("train.parquet", "test.parquet"))):
        raise MissingData(f"{FOLDER}={given} does not hold what is needed: {WANTED[name]}")
    if name == "mnist":
        return datasets.load("mnist", folder, seed=0)
    return Dataset(_parquet(folder / "train.parquet"), _parquet(folder / "test.parquet"))


def _parquet(path: Path) -> Part:
    x, y = (np.concatenate(parts) for parts in zip(*read_parquet(path), strict=True))
    return Part(x, y.astype(np.int64))


def _first(part: Part, images: int) -> Part:
    rows = np.concatenate([np.flatnonzero(part.y == label)[:images] for label in np.unique(part.y)])
    return Part(part.x[rows], part.y[rows])
