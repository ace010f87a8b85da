"""Public data on disk -> what a base is trained on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from memory_client.files import Batch, checked, read_data, read_mnist
from numpy.typing import NDArray

from dgm_core.manifest import DataSpec, DTypeName
from dgm_core.memory import TaskData
from memory_server.codec.values import Incoming


@dataclass(frozen=True)
class Selection:
    """Which data, and what is done to its images.

    Arguments:
        paths: folders of class folders, .parquet tables, .npz files; all of them together.
        images, labels: a pair of IDX files instead.
        size: side of the square to which every image is resized; None keeps them.
        grey: whether colour images become grey (luminance, ITU-R 601).
    """

    paths: Sequence[Path]
    images: Path | None
    labels: Path | None
    size: int | None
    grey: bool

    def read(self) -> TaskData:
        """All rows in the order of the files, with the classes in ascending order.

        Raises:
            ValueError: nothing is named, there are no rows, or what is there are no images that a memory could hold.
            InvalidInput: a file cannot be read, or does not hold one label for each row.
        """
        read = [(self._prepared(x), y) for x, y in map(checked, self._batches()) if len(y)]
        if not read:
            raise ValueError(f"{self._named()}: there are no rows, and a base needs data")
        shapes = {x.shape[1:] for x, _ in read}
        if len(shapes) > 1:
            raise ValueError(
                f"the data has images of the shapes {_listed(shapes)}; make them alike by --size or --grey"
            )
        x, y = (np.concatenate(parts) for parts in zip(*read, strict=True))
        classes, indices = np.unique(y, return_inverse=True)
        return TaskData(torch.from_numpy(x), torch.from_numpy(indices), tuple(classes.tolist()))

    def _batches(self) -> Iterator[Batch]:
        if self.images is not None and self.labels is not None and not self.paths:
            yield read_mnist(self.images, self.labels)
            return
        if not self.paths or self.images is not None or self.labels is not None:
            raise ValueError("name the data: files and folders, or both --images and --labels")
        for path in self.paths:
            found = read_data(path, self.size)
            if found is None:
                raise ValueError(
                    f"{path} is neither an .npz nor a .parquet nor a folder; IDX files go by --images and --labels"
                )
            yield from _each(found)

    def _named(self) -> str:
        return ", ".join(str(path) for path in (*self.paths, self.images) if path)

    def _prepared(self, x: NDArray[Any]) -> NDArray[np.uint8]:
        """Images (n, C, H, W) as uint8, in the size and the colours that were asked for."""
        if x.ndim != 4:
            raise ValueError(
                f"the data holds {x.dtype} of shape {x.shape}; a base learns from images (n, C, H, W), uint8 or float32"
            )
        pixels = Incoming(_spec(x), cast(DTypeName, x.dtype.name)).rows(x.tobytes(), "x")
        if self.grey and pixels.shape[1] == 3:
            pixels = _grey(pixels)
        return pixels if self.size is None else _resized(pixels, self.size)


def _each(found: Batch | Iterable[Batch]) -> Iterator[Batch]:
    return iter([found] if isinstance(found, tuple) else found)


def _spec(x: NDArray[Any]) -> DataSpec:
    return DataSpec(x.shape[1:], "uint8")


def _grey(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image  # noqa: PLC0415 - an extra

    n, _, height, width = x.shape
    tall = Image.fromarray(np.ascontiguousarray(np.moveaxis(x, 1, 3)).reshape(n * height, width, 3))
    return np.asarray(tall.convert("L")).reshape(n, 1, height, width)


def _resized(x: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Each channel of each image on its own, as the readers of image files do it."""
    if x.shape[2:] == (size, size):
        return x
    from PIL import Image  # noqa: PLC0415 - an extra

    planes = x.reshape(-1, *x.shape[2:])
    smaller = [Image.fromarray(plane).resize((size, size), Image.Resampling.LANCZOS) for plane in planes]
    return np.stack([np.asarray(plane) for plane in smaller]).reshape(*x.shape[:2], size, size)


def _listed(shapes: Iterable[tuple[int, ...]]) -> str:
    return " and ".join(map(str, sorted(shapes)))
