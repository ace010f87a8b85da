"""Whatever a user calls a stream -> pieces (x, y) of arrays that each fill one message.

Tensors are taken by their methods, so that no framework is imported here.
"""

import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_client._encode import plain_label
from memory_client.errors import InvalidInput
from memory_client.types import Label

CHUNK_BYTES = 512 * 1024
"""At most this many bytes of x in one message (but always a whole row): loopback is fastest from 256 KiB to 1 MiB."""

Batch = tuple[NDArray[Any], NDArray[Any]]
"""x (n, ...) as uint8 or float32, and y (n,) as int64 or unicode."""


def pairs(stream: Any) -> Iterator[Any]:
    """What a stream yields: a pair of arrays is one batch, anything else is iterated.

    Raises:
        InvalidInput: it cannot be iterated.
    """
    if isinstance(stream, tuple | list) and len(stream) == 2 and hasattr(stream[0], "shape"):
        return iter([stream])
    if not isinstance(stream, Iterable) or isinstance(stream, str | bytes | Mapping) or hasattr(stream, "dtype"):
        raise InvalidInput(
            f"the stream is {type(stream).__name__}: pass a pair (x, y) of arrays, "
            "or an iterable of such pairs as batches, for example a DataLoader"
        )
    return iter(stream)


def is_repeatable(stream: Any) -> bool:
    """Whether the stream can be iterated a second time: a list or a DataLoader can, a generator cannot."""
    return not isinstance(stream, Iterator | AsyncIterator)


class Pieces:
    """Regroups batches, one after the other, into pieces that each fill a message; only the last may be smaller."""

    def __init__(self) -> None:
        self._seen = 0
        self._alike: tuple[str, str] | None = None
        self._waiting: list[Batch] = []

    def add(self, pair: Any) -> Iterator[Batch]:
        """The pieces that a batch completes, to be used before the stream goes on: they may lie in the batch's arrays.

        Raises:
            InvalidInput: it is no batch, or its rows are not like those of the first.
        """
        x, y = self._checked(pair)
        rows = rows_per_chunk(x)
        if sum(len(y) for _, y in self._waiting) + len(y) >= rows:
            x, y = _joined([*self._waiting, (x, y)])
            whole = len(x) - len(x) % rows
            yield from ((x[at : at + rows], y[at : at + rows]) for at in range(0, whole, rows))
            self._waiting, x, y = [], x[whole:], y[whole:]
        if len(x):
            self._waiting.append((x.copy(), y.copy()))  # a stream may fill its arrays anew for the next batch

    def rest(self) -> Iterator[Batch]:
        """What is left when no more batches come: one piece or none."""
        if self._waiting:
            yield _joined(self._waiting)

    def _checked(self, pair: Any) -> Batch:
        x, y = batch(pair)
        alike = (f"rows of {x.dtype} {x.shape[1:]}", "strings" if y.dtype.kind == "U" else "integers")
        first = self._alike = self._alike or alike
        if alike != first:
            raise InvalidInput(
                f"batch {self._seen} has {' labelled by '.join(alike)}, but the first had "
                f"{' labelled by '.join(first)}: all rows of a task are alike"
            )
        self._seen += 1
        return x, y


def rows_per_chunk(x: NDArray[Any]) -> int:
    """How many rows like those of x (n, ...) fit one message."""
    return max(1, CHUNK_BYTES // max(1, x.itemsize * math.prod(x.shape[1:])))


def examples(x: Any) -> NDArray[Any]:
    """A batch of x as a C-contiguous little-endian array (n, ...), uint8 or float32.

    Takes arrays and what turns into one, and tensors of any device. Other floats become float32.
    """
    array = np.asarray(_detached(x))
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # the server refuses what is not finite
            array = array.astype("<f4", copy=False)
    elif array.dtype != np.uint8:
        raise InvalidInput(f"x has dtype {array.dtype}: pass uint8 images, or floats (images in [-1, 1])")
    if array.ndim == 3:
        raise InvalidInput(
            f"x has shape {array.shape}: grey images need a channel axis, as in x[:, None], for (n, 1, H, W)"
        )
    if array.ndim < 2:
        raise InvalidInput(f"x has shape {array.shape}: a batch is (n, C, H, W) for images or (n, F) for vectors")
    return np.ascontiguousarray(array)


def labels(y: Any) -> NDArray[Any]:
    """A batch of labels as an int64 or unicode array (n,)."""
    array = _label_array(_detached(y))
    if array.ndim != 1:
        raise InvalidInput(
            f"y has shape {array.shape}: a batch has one label a row, (n,); one-hot rows need y.argmax(1)"
        )
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise InvalidInput(f"y holds {array.max()}: integer labels are at most 2**63 - 1")
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind != "U":
        raise InvalidInput(f"y has dtype {array.dtype}: labels are integers or strings, so convert them first")
    return array


def batch(pair: Any) -> Batch:
    """What a stream yields, as one batch. Raises InvalidInput if it is none."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InvalidInput(f"the stream yields {type(pair).__name__}: every batch is a pair (x, y)")
    y = labels(pair[1])
    x = examples(pair[0])
    if len(x) != len(y):
        raise InvalidInput(f"x has {len(x)} rows and y {len(y)}: every row needs one label")
    return x, y


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    xs, ys = zip(*parts, strict=True)
    return np.concatenate(xs), np.concatenate(ys)


def _detached(value: Any) -> Any:
    """What NumPy can read of a tensor: off its graph and its device, and in a float that NumPy knows."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _label_array(y: Any) -> NDArray[Any]:
    if isinstance(y, str | bytes) or not isinstance(y, Iterable) or getattr(y, "ndim", 1) == 0:
        raise InvalidInput(
            f"y is the single label {y!r}: the stream must yield batches, so wrap single examples in a DataLoader"
        )
    if hasattr(y, "dtype") and np.asarray(y).dtype != object:
        return np.asarray(y)
    return _array_of([plain_label(label) for label in y])


def _array_of(plain: list[Label]) -> NDArray[Any]:
    """An array of labels, which must be of one type: np.asarray turns [1, "a"] into strings without a word."""
    if len({type(label) for label in plain}) > 1:
        raise InvalidInput("y mixes integers and strings: all labels of a memory are one or the other")
    return np.asarray(plain) if plain else np.empty(0, np.int64)
