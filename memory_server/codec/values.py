"""Names, labels, shapes and rows: what every message is made of."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy import ndarray

from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec, DTypeName, Label
from memory_server.errors import BadRequest

MAX_LABEL = 200
MAX_CLASSES = 10_000
"""Of one request or one task."""

MAX_TASKS = 10_000
"""That one request names."""

MAX_OPTIONS, MAX_OPTION = 64, 1000
MAX_KIND = 100
_MOST_SIDES = 3

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DTYPES: dict[int, DTypeName] = {pb.UINT8: "uint8", pb.FLOAT32: "float32"}
_NUMPY: dict[DTypeName, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "float32": np.dtype("<f4")}


def is_name(text: str) -> bool:
    """Whether a memory or a task may be called so."""
    return _NAME.fullmatch(text) is not None


def name(text: str, field: str) -> str:
    """A name of a memory or a task, as it was sent."""
    if not is_name(text):
        rule = "1 to 100 letters, digits, '.', '_' and '-', the first a letter or a digit"
        raise BadRequest(field, f"{text[:MAX_LABEL]!r} is not a name: a name is {rule}")
    return text


def label(message: pb.ClassLabel, field: str) -> Label:
    """One class label."""
    if message.WhichOneof("label") == "integer":
        return message.integer
    if not 1 <= len(message.text) <= MAX_LABEL:
        said = repr(message.text[:MAX_LABEL])
        raise BadRequest(field, f"a class is an integer or a text of 1 to {MAX_LABEL} characters, not {said}")
    return message.text


def labels(sent: Sequence[pb.ClassLabel], field: str) -> tuple[Label, ...]:
    """Class labels: all integers or all texts, none twice, not too many."""
    check_number(len(sent), MAX_CLASSES, field)
    found = tuple(label(message, f"{field}[{index}]") for index, message in enumerate(sent))
    check_labels(found, field)
    return found


def names(sent: Sequence[str], field: str) -> tuple[str, ...]:
    """Names of memories or tasks, as they were sent."""
    check_number(len(sent), MAX_TASKS, field)
    return tuple(name(text, f"{field}[{index}]") for index, text in enumerate(sent))


def check_labels(found: Sequence[Label], field: str) -> None:
    """Refuses a mixture of integers and texts, and a class that is named twice."""
    if len({type(one) for one in found}) > 1:
        raise BadRequest(field, f"the classes {_some(found)} mix integers and texts; name all of them in one way")
    if len(set(found)) < len(found):
        twice = next(one for one, times in Counter(found).items() if times > 1)
        raise BadRequest(field, f"class {twice!r} is named twice; name each class once")


def check_number(number: int, most: int, field: str) -> None:
    """Refuses more values than one field may have: what a request costs must have a bound."""
    if number > most:
        raise BadRequest(field, f"there are {number} values; name at most {most}")


def options(sent: Mapping[str, str], field: str) -> dict[str, str]:
    """Options of a kind, of which only the sizes are known here."""
    check_number(len(sent), MAX_OPTIONS, field)
    for key, value in sent.items():
        check_length(key, MAX_LABEL, field)
        check_length(value, MAX_OPTION, f"{field}.{key}")
    return dict(sent)


def check_length(text: str, most: int, field: str) -> None:
    """Refuses a text that is too long, without repeating it."""
    if len(text) > most:
        raise BadRequest(field, f"a text of {len(text)} characters; at most {most} are taken")


def label_message(one: Label) -> pb.ClassLabel:
    """The inverse of `label`."""
    return pb.ClassLabel(integer=one) if isinstance(one, int) else pb.ClassLabel(text=one)


@contextmanager
def fields_of(prefix: str) -> Iterator[None]:
    """Turns what the core refuses into a BadRequest on the field under `prefix`, such as "header."."""
    try:
        yield
    except CannotLearn as error:
        raise BadRequest(f"{prefix}{error.field}", str(error)) from error


def spec(message: pb.DataSpec, prefix: str = "") -> DataSpec:
    """What a memory holds of x sent like this: images become uint8, vectors stay float32."""
    sent = dtype(message.dtype, f"{prefix}spec.dtype")
    check_number(len(message.shape), _MOST_SIDES, f"{prefix}spec.shape")
    shape = tuple(message.shape)
    if len(shape) == 1 and sent != "float32":
        raise BadRequest(f"{prefix}spec.dtype", "vectors are sent as FLOAT32, not UINT8; convert them")
    with fields_of(prefix):
        return DataSpec(shape, "float32" if len(shape) == 1 else "uint8")


def dtype(number: int, field: str) -> DTypeName:
    """UINT8 or FLOAT32."""
    if number == pb.FLOAT16:
        raise BadRequest(field, "FLOAT16 is for samples alone; x comes as UINT8 or FLOAT32, so convert it")
    try:
        return _DTYPES[number]
    except KeyError:
        raise BadRequest(field, f"dtype {number} is neither UINT8 nor FLOAT32; say which it is") from None


def spec_message(shape: Iterable[int], given: str) -> pb.DataSpec:
    """A shape and the dtype of what is sent in it."""
    return pb.DataSpec(shape=shape, dtype=given.upper())


@dataclass(frozen=True)
class Incoming:
    """How x arrives: what the memory holds of it, and the dtype in which it is sent."""

    spec: DataSpec
    sent: DTypeName

    @classmethod
    def decode(cls, message: pb.DataSpec, prefix: str = "") -> "Incoming":
        """From the spec of x on the wire."""
        return cls(spec(message, prefix), dtype(message.dtype, f"{prefix}spec.dtype"))

    def rows(self, x: bytes, field: str) -> ndarray:
        """x in the dtype of the memory, (rows, *shape).

        Raises:
            BadRequest: these are not whole rows; a value is not finite or, for images, not in [-1, 1].
        """
        row = _NUMPY[self.sent].itemsize * int(np.prod(self.spec.shape))
        if len(x) % row:
            shape = f"shape {self.spec.shape} and dtype {self.sent}"
            raise BadRequest(field, f"{len(x)} bytes are not whole rows of {row} bytes, which is a row of {shape}")
        values = np.frombuffer(x, _NUMPY[self.sent]).reshape(-1, *self.spec.shape)
        return values if self.sent == "uint8" else self._checked(values, field)

    def _checked(self, values: ndarray, field: str) -> ndarray:
        if self.spec.is_image:
            valid = (values >= -1) & (values <= 1)
            _refuse(
                values, valid, field, "images are floats in [-1, 1] or UINT8; rescale them, as in pixels / 127.5 - 1"
            )
            return _pixels(values)
        _refuse(values, np.isfinite(values), field)
        return values


def _pixels(values: ndarray) -> ndarray:
    """Floats in [-1, 1] as uint8."""
    scratch = values + np.float32(1)
    scratch *= np.float32(127.5)
    pixels: ndarray = np.rint(scratch, out=scratch).astype(np.uint8)
    scratch.fill(0)  # numpy keeps small arrays that are freed for itself, as they are
    return pixels


def _refuse(values: ndarray, valid: ndarray, field: str, rule: str = "") -> None:
    """Says what is wrong with the first value that is not valid, without repeating raw data in an error."""
    if valid.all():
        return
    row, value = int(np.argwhere(~valid)[0][0]), float(values[~valid][0])
    if np.isfinite(value):
        raise BadRequest(field, f"row {row} holds a value out of range; {rule}")
    found = "NaN" if np.isnan(value) else "an infinite value"
    raise BadRequest(field, f"row {row} holds {found}; every value is finite, so drop or mend such rows")


def _some(found: Sequence[Label]) -> str:
    return ", ".join(map(repr, found[:5])) + (", ..." if len(found) > 5 else "")
