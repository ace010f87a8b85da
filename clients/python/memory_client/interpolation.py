"""What lies between two tasks, as a request."""

import secrets
from collections.abc import Sequence

import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy.typing import ArrayLike, NDArray

from memory_client._encode import class_label
from memory_client.errors import InvalidInput
from memory_client.types import Label

Ends = Sequence[Label | None]
"""A class of the start and a class of the end; None for the first that the task learned."""


def add_path(request: pb.InterpolateRequest, weights: ArrayLike, classes: Ends) -> tuple[int, ...]:
    """Adds weights and classes to a request, and a seed if it has none; the shape of the weights, () for one number.

    Raises:
        InvalidInput: the wire cannot say it.
    """
    given = _numbers(weights)
    request.weights.extend(given.ravel().tolist())
    _add_classes(request, classes)
    if not request.HasField("seed"):  # a stream that breaks must go on with the noise that it began with
        request.seed = secrets.randbits(64)
    return given.shape


def _numbers(weights: ArrayLike) -> NDArray[np.float64]:
    try:
        given = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        given = np.array(np.nan)
    if np.isnan(given).any():  # to NumPy, None is a number of this kind
        raise InvalidInput(f"weights is {weights!r}: pass numbers from 0 (start) to 1 (end)")
    if given.ndim > 1:
        raise InvalidInput(f"weights has shape {given.shape}: pass one number, or a sequence of them")
    return given


def _add_classes(request: pb.InterpolateRequest, classes: Ends) -> None:
    if isinstance(classes, str) or not isinstance(classes, Sequence) or len(classes) != 2:
        raise InvalidInput(f"classes is {classes!r}: pass a class of each end, as in (0, 3); None is the first")
    start, end = classes
    if start is not None:
        request.start_class.CopyFrom(class_label(start))
    if end is not None:
        request.end_class.CopyFrom(class_label(end))
