"""Python values -> wire messages: labels, selections, and the data of a task in chunks.

The server validates; here is refused only what the wire cannot say.
"""

import hashlib
import operator
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy.typing import NDArray

from memory_client.errors import InvalidInput
from memory_client.types import Label

_DTYPES = {"uint8": pb.UINT8, "float32": pb.FLOAT32}
_SAMPLED = {**_DTYPES, "float16": pb.FLOAT16}
_LAYOUTS = {None: pb.LAYOUT_UNSPECIFIED, "NCHW": pb.NCHW, "NHWC": pb.NHWC}
_PRECISIONS = {"full": pb.FULL, "reduced": pb.REDUCED}
_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)
_SIDES = range(1, 2**32)  # 0 would mean none; the server knows the real limit

PADDING = bytes(256 << 10)
"""What follows data, so that the server's end of the connection keeps nothing of it."""


def class_label(label: object) -> pb.ClassLabel:
    """The wire form of one class; Python and NumPy integers and strings are taken."""
    plain = plain_label(label)
    return pb.ClassLabel(integer=plain) if isinstance(plain, int) else pb.ClassLabel(text=plain)


def class_labels(classes: object, name: str = "classes") -> list[pb.ClassLabel]:
    """The wire form of a selection of classes: None for all, one class, or several.

    Raises:
        InvalidInput: the selection is empty, which on the wire would mean all of them.
    """
    return [class_label(label) for label in _selection(classes, name)]


def names(chosen: object, field: str) -> list[str]:
    """The wire form of a selection of names: None for all, one name, or several."""
    return [str(name) for name in _selection(chosen, field)]


def plain_label(label: object) -> Label:
    """A label as a Python int or str."""
    if isinstance(label, str):
        return str(label)
    if isinstance(label, bool | np.bool_ | bytes):
        raise InvalidInput(
            f"{label!r} is no class: classes are integers or strings, so convert it with int() or .decode()"
        )
    if not hasattr(label, "__index__"):
        raise InvalidInput(f"{label!r} is no class: classes are integers or strings")
    return within(label, _INT64, "a class")


def within(value: object, limits: range, name: str) -> int:
    """The integer `value`, if it is in `limits`, which are the wire's and may be wider than the server's."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidInput(f"{name} is {value!r}: pass an integer") from None
    if number < limits[0]:
        raise InvalidInput(f"{name} is {number}: it must be at least {limits[0]}")
    if number > limits[-1]:
        raise InvalidInput(f"{name} is {number}: it must be at most {limits[-1]}")
    return number


def unsigned(value: object, name: str) -> int:
    """`value` as an unsigned 64-bit integer, for the field `name`."""
    return within(value, _UINT64, name)


def sample_format(dtype: object, layout: object, size: object) -> pb.Format:
    """The wire form of how samples are to be given: None leaves each choice to the server."""
    if layout not in _LAYOUTS:
        raise InvalidInput(f"layout is {layout!r}: pass 'NCHW' or 'NHWC'")
    height, width = (0, 0) if size is None else _sides(size)
    return pb.Format(dtype=_sampled(dtype), layout=_LAYOUTS[layout], height=height, width=width)


def sample_precision(precision: object) -> pb.Precision:
    """The wire form of a precision."""
    if precision not in _PRECISIONS:
        raise InvalidInput(f"precision is {precision!r}: pass 'full' or 'reduced'")
    return _PRECISIONS[precision]


def options_text(options: Mapping[str, object]) -> dict[str, str]:
    """Options of a memory kind as text; True and False become "true" and "false"."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}


def spec(x: NDArray[Any]) -> pb.DataSpec:
    """What one row of a batch is."""
    return pb.DataSpec(shape=x.shape[1:], dtype=_DTYPES[x.dtype.name])


@dataclass
class TaskEncoder:
    """Turns batches of one task into its chunks, its finish and its digest.

    Chunks may be cut anywhere: the digest does not depend on where.
    """

    count: int = 0
    nbytes: int = 0
    _indices: dict[Label, int] = field(default_factory=dict)
    _x: Any = field(default_factory=hashlib.sha256)
    _y: Any = field(default_factory=hashlib.sha256)

    def chunk(self, x: NDArray[Any], y: NDArray[Any]) -> pb.LearnTaskRequest:
        """One message with all rows of x (n, ...) and y (n,)."""
        occurring, inverse = _by_first_occurrence(y)
        new = [label for label in occurring if label not in self._indices]
        self._indices.update({label: len(self._indices) + i for i, label in enumerate(new)})
        table = np.array([self._indices[label] for label in occurring], "<i4")
        content = x.tobytes()
        self._x.update(content)
        self._y.update(_digestible(occurring, inverse))
        self.count += len(x)
        self.nbytes += len(content)
        new_classes = [class_label(label) for label in new]
        return pb.LearnTaskRequest(
            chunk=pb.LearnTaskChunk(x=content, y=table[inverse].tobytes(), new_classes=new_classes)
        )

    def finish(self) -> pb.LearnTaskRequest:
        """The last message: what was sent in all."""
        digest = hashlib.sha256(self._x.digest() + self._y.digest()).digest()
        return pb.LearnTaskRequest(finish=pb.LearnTaskFinish(count=self.count, digest=digest, padding=PADDING))


def _selection(chosen: object, name: str) -> list[object]:
    if chosen is None:
        return []
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        return [chosen]
    if isinstance(chosen, bytes | bytearray) or getattr(chosen, "ndim", 1) == 0:
        raise InvalidInput(f"{name} is {chosen!r}: pass an integer or a text, or a sequence of them")
    many = list(chosen)
    if not many:
        raise InvalidInput(f"{name} is empty: name at least one, or leave it out for all")
    return many


def _sampled(dtype: object) -> pb.DType:
    if dtype is None:
        return pb.DTYPE_UNSPECIFIED
    try:
        return _SAMPLED[np.dtype(dtype).name]  # type: ignore[call-overload]
    except (KeyError, TypeError):
        raise InvalidInput(f"dtype is {dtype!r}: pass 'uint8', 'float16' or 'float32'") from None


def _sides(size: object) -> tuple[int, int]:
    try:
        height, width = tuple(size)  # type: ignore[arg-type, var-annotated]
    except (TypeError, ValueError):
        raise InvalidInput(f"size is {size!r}: pass (height, width) in pixels, as in (32, 32)") from None
    return within(height, _SIDES, "the height in size"), within(width, _SIDES, "the width in size")


def _by_first_occurrence(y: NDArray[Any]) -> tuple[list[Label], NDArray[np.intp]]:
    """The labels that occur, in order of their first occurrence, and the index of each row's label among them."""
    occurring, first, inverse = np.unique(y, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return occurring[order].tolist(), rank[inverse]


def _digestible(occurring: list[Label], inverse: NDArray[np.intp]) -> bytes:
    codes = [_label_code(label) for label in occurring]
    return b"".join([codes[i] for i in inverse.tolist()])


def _label_code(label: Label) -> bytes:
    if isinstance(label, int):
        return b"i" + struct.pack("<q", label)
    text = label.encode()
    return b"s" + struct.pack("<I", len(text)) + text
