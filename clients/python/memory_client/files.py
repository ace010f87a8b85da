"""Data sets on disk -> something `learn_task` takes: .npz, folders of images, MNIST's IDX files, Parquet tables.

Images come as uint8 (n, C, H, W). Reading folders needs pillow, Parquet needs pyarrow; nothing else is needed.
"""

import gzip
import importlib
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_client import _batches
from memory_client.errors import InvalidInput
from memory_client.types import Label

Batch = tuple[NDArray[Any], NDArray[Any]]
Examples = tuple[NDArray[Any], NDArray[Any] | None]
"""Examples x, and their labels y where there are any."""

_FILES_PER_BATCH = 256
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp"}
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> NDArray[Any]:
    """The array of an IDX file, as MNIST is published in, compressed by gzip or not.

    Raises:
        InvalidInput: it is no IDX file, or is cut off.
    """
    content = _unpacked(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise InvalidInput(f"{path} is no IDX file: those begin with two zero bytes and a type")
    dtype, start = np.dtype(_IDX_DTYPES[content[2]]), 4 + 4 * content[3]
    if len(content) < start:
        raise InvalidInput(f"{path} is cut off before its data; fetch it again")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    held = len(content) - start
    if held != dtype.itemsize * math.prod(shape):
        raise InvalidInput(f"{path} is cut off: it announces {shape} of {dtype} and holds {held} bytes; fetch it again")
    values = np.frombuffer(content, dtype, offset=start)
    return values.reshape(shape).astype(values.dtype.newbyteorder("="))


def read_mnist(images: Path, labels: Path) -> Batch:
    """Images (n, 1, H, W) and their labels (n,) from a pair of IDX files."""
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or y.ndim != 1:
        raise InvalidInput(
            f"{images} holds shape {x.shape} and {labels} {y.shape}: expected (n, H, W) images and (n,) labels"
        )
    return x[:, None], y.astype(np.int64)


def read_npz(path: Path) -> Batch:
    """The arrays x and y of an .npz file."""
    arrays = _arrays(path, "x", "y")
    return arrays["x"], arrays["y"]


def read_data(path: Path, size: int | None = None) -> Batch | Iterator[Batch] | None:
    """What lies in a folder, a .parquet or an .npz; None for anything else. See their readers."""
    if path.is_dir():
        return read_folder(path, size)
    if path.suffix == ".parquet":
        return read_parquet(path, size)
    return read_npz(path) if path.suffix == ".npz" else None


def read_examples(path: Path, size: int | None = None) -> Iterator[Examples] | None:
    """As `read_data`; here labels may be missing: an .npz may hold x alone, a folder may hold images as they are."""
    if path.is_dir() and (images := _images_in(path)):
        return ((x, None) for x, _ in _decoded(images, size))
    if path.suffix == ".npz" and not path.is_dir():
        arrays = _arrays(path, "x")
        return iter([(arrays["x"], arrays.get("y"))])
    found = read_data(path, size)
    return None if found is None else iter([found] if isinstance(found, tuple) else found)


def read_folder(folder: Path, size: int | None = None) -> Iterator[Batch]:
    """Batches from a folder with one sub-folder of images per class.

    The names of the sub-folders are the classes: integers if all of them are, else strings. The first image decides
    whether there is one channel (grey) or three.

    Arguments:
        size: side in pixels to which every image is resized; None keeps them, and they must be alike then.

    Raises:
        InvalidInput: there is no such image, or one cannot be read.
    """
    found = [(path, sub.name) for sub in sorted(folder.iterdir()) if sub.is_dir() for path in _images_in(sub)]
    if not found:
        raise InvalidInput(f"{folder} holds no images: expected {folder}/CLASS/IMAGE.png and the like")
    labels = class_names([name for _, name in found])
    for x, at in _decoded([path for path, _ in found], size):
        yield x, np.asarray(labels[at : at + len(x)])


def read_parquet(path: Path, size: int | None = None) -> Iterator[Batch]:
    """Batches from a Parquet table in Hugging Face's layout: `image` holds encoded files, `label` the classes.

    Raises:
        InvalidInput: pyarrow is not installed, or the columns are others.
    """
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise InvalidInput(f"{path} needs pyarrow to be read: pip install pyarrow") from None
    table = parquet.ParquetFile(path)
    image, label = (
        _column(table.schema_arrow.names, names, path) for names in (("image", "img"), ("label", "fine_label"))
    )
    grey: bool | None = None
    for batch in table.iter_batches(_FILES_PER_BATCH, columns=[image, label]):
        columns = batch.to_pydict()
        images = []
        for cell in columns[image]:
            images.append(_decode_image(cell["bytes"], size, grey, path))
            grey = images[0].shape[0] == 1
        yield _stacked(images, [path] * len(images)), np.asarray(columns[label])


def only_classes(batches: Iterable[Batch], names: Iterable[str]) -> Iterator[Batch]:
    """The rows whose class is named, as text; batches without any are left out. Raises InvalidInput: y is no labels."""
    wanted = np.asarray(list(names))
    for x, y in batches:
        chosen = np.isin(_batches.labels(y).astype(np.str_), wanted)
        if chosen.any():
            yield x[chosen], y[chosen]


def checked(batch: Batch) -> Batch:
    """The rows as `learn_task` takes them. Raises InvalidInput: they are none, or have not one label each."""
    return _batches.batch(batch)


def class_names(names: list[str]) -> list[Label]:
    """Names as classes: integers if every one is written as an integer is, else strings."""
    return [int(name) for name in names] if all(_is_integer(name) for name in names) else list(names)


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise InvalidInput(f"{path} is damaged ({error}): fetch it again") from None


def _arrays(path: Path, *needed: str) -> dict[str, NDArray[Any]]:
    """x and y of an .npz file, as far as it has them."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if set(needed) <= set(arrays):
                return {name: arrays[name] for name in ("x", "y") if name in arrays}
            found = f"holds {sorted(arrays)}"
    except (TypeError, ValueError, zipfile.BadZipFile) as error:  # TypeError: a single array is no archive
        found = f"cannot be read ({error})"
    given = ", ".join(f"{name}={name}" for name in needed)
    raise InvalidInput(f"{path} {found}: save the data by np.savez(path, {given})")


def _decoded(paths: list[Path], size: int | None) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Batches of image files, and the index of the first of each; the first image decides about the channels."""
    grey: bool | None = None
    for at in range(0, len(paths), _FILES_PER_BATCH):
        part = paths[at : at + _FILES_PER_BATCH]
        images = []
        for path in part:
            images.append(_decode_image(path.read_bytes(), size, grey, path))
            grey = images[0].shape[0] == 1
        yield _stacked(images, part), at


def _is_integer(name: str) -> bool:
    return name.lstrip("-").isdecimal() and str(int(name)) == name


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def _decode_image(content: bytes, size: int | None, grey: bool | None, path: Path) -> NDArray[np.uint8]:
    """One encoded image as (C, H, W); `grey` None decides by the image itself."""
    from PIL import Image  # noqa: PLC0415 - only the [cli] extra has pillow

    try:
        with Image.open(io.BytesIO(content)) as opened:
            keeps_grey = opened.mode in ("1", "L", "LA", "I;16") if grey is None else grey
            image = opened.convert("L" if keeps_grey else "RGB")
    except OSError as error:
        raise InvalidInput(f"{path} holds no image that pillow can read ({error}): remove or convert it") from None
    if size is not None:
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    array = np.asarray(image)
    return array[None] if keeps_grey else np.moveaxis(array, 2, 0)


def _stacked(images: list[NDArray[np.uint8]], paths: list[Path]) -> NDArray[np.uint8]:
    for image, path in zip(images, paths, strict=True):
        if image.shape != images[0].shape:
            raise InvalidInput(f"{path} has shape {image.shape}, others {images[0].shape}: resize all alike by --size")
    return np.stack(images)


def _column(names: list[str], wanted: tuple[str, ...], path: Path) -> str:
    for name in wanted:
        if name in names:
            return name
    raise InvalidInput(f"{path} has the columns {names}: expected `image` and `label`")
