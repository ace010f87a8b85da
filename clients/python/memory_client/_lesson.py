"""One task on its way to the server, without the connection: its messages, when to send it again, how it ended."""

import math
import time
import warnings
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
from memory_api.v1 import memory_pb2 as pb

from memory_client._batches import Batch, Pieces, is_repeatable, pairs
from memory_client._encode import TaskEncoder, spec
from memory_client.errors import (
    BY_REASON,
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    MemoryClosed,
    ServerBusy,
    ServerUnavailable,
    TaskCancelled,
    TaskFailed,
    TaskInterrupted,
)
from memory_client.progress import ProgressListener
from memory_client.types import Task, TaskState, Until

_MOST_INTERRUPTIONS = 5
_IMAGES = 4
"""Axes of a batch of them."""

_NOT_NEGATIVE = "x holds nothing below 0, and images are floats in [-1, 1]: if x is scaled to [0, 1], make it 2 * x - 1"


class Lesson:
    """The messages of one upload, made as its batches come.

    Arguments:
        header: what is said before the data; its spec is filled in from the first batch.
        listener: told how much has been handed to the connection.
    """

    def __init__(self, header: pb.LearnTaskHeader, listener: ProgressListener) -> None:
        self._header = header
        self._listener = listener
        self._pieces = Pieces()
        self._encoder = TaskEncoder()
        self._darkest = -math.inf

    def of(self, stream: Any) -> Iterator[pb.LearnTaskRequest]:
        """All messages of a stream, iterated here. Raises InvalidInput, and what the stream raises."""
        for pair in pairs(stream):
            yield from self.add(pair)
        yield from self.finish()

    def add(self, pair: Any) -> Iterator[pb.LearnTaskRequest]:
        """The messages that a batch (x, y) completes. Raises InvalidInput if it is none."""
        for piece in self._pieces.add(pair):
            yield from self._encoded(piece)

    def finish(self) -> Iterator[pb.LearnTaskRequest]:
        """What is left when no more batches come. Raises InvalidInput if none came."""
        for piece in self._pieces.rest():
            yield from self._encoded(piece)
        if not self._encoder.count:
            raise InvalidInput("the stream has no rows: a task needs data")
        if self._darkest >= 0:
            warnings.warn(_NOT_NEGATIVE, stacklevel=2)
        self._tell()
        yield self._encoder.finish()

    def _encoded(self, piece: Batch) -> Iterator[pb.LearnTaskRequest]:
        x, y = piece
        least = float(x.min()) if x.ndim == _IMAGES and x.dtype != np.uint8 else -math.inf
        if self._encoder.count:
            self._darkest = min(self._darkest, least)
            self._tell()
        else:
            self._darkest = least
            self._header.spec.CopyFrom(spec(x))
            yield pb.LearnTaskRequest(header=self._header)
        yield self._encoder.chunk(x, y)

    def _tell(self) -> None:
        self._listener.sent(self._encoder.count, self._encoder.nbytes)


class Resending:
    """Whether a task is sent again: for `seconds` while the server is busy or away, if its stream allows it."""

    def __init__(self, stream: Any, seconds: float) -> None:
        self._repeatable = is_repeatable(stream)
        self._seconds = seconds
        self._deadline = math.inf

    def next_pause(self, error: ServerBusy | ServerUnavailable) -> float:
        """Seconds to wait before the next attempt; raises `error` when there is to be none."""
        now, pause = time.monotonic(), error.retry_after or 1.0
        self._deadline = min(self._deadline, now + self._seconds)
        if now + pause > self._deadline or not self._repeatable:
            raise error
        return pause


class Interruptions:
    """Whether a task is sent again whose server, or the worker that learned it there, stopped or crashed meanwhile.

    A task that itself brings its server or its worker down must not do so for ever.
    """

    def __init__(self, stream: Any) -> None:
        self._left = _MOST_INTERRUPTIONS if is_repeatable(stream) else 0

    def bear(self, error: TaskInterrupted) -> None:
        """Raises `error` if the task is not to be sent again."""
        if not self._left:
            raise error
        self._left -= 1


def watching(memory: str, task: str, until: Until) -> pb.WatchTaskRequest:
    """What a task is followed by. Raises InvalidInput for an end that there is not."""
    if until not in get_args(Until):
        raise InvalidInput(f"until is {until!r}: pass 'final' or 'consolidated'")
    return pb.WatchTaskRequest(memory=memory, task=task, until_consolidated=until == "consolidated")


def learned(task: Task) -> Task:
    """The task, if it was learned. Raises TaskFailed or one of its kinds, or TaskCancelled, if it ended otherwise."""
    if task.state is TaskState.CANCELLED:
        raise TaskCancelled(f"task {task.name!r} was cancelled and nothing was kept; teach it again when you want it")
    if task.state is TaskState.FAILED:
        kind = BY_REASON.get(task.error_reason, TaskFailed)
        raise kind(f"task {task.name!r} failed: {task.error}", reason=task.error_reason)
    return task


def not_in_time(name: str, seconds: float) -> DeadlineExceeded:
    """A wait has ended before its task."""
    return DeadlineExceeded(f"task {name!r} is not finished after {seconds:g} s; it goes on at the server")


def not_reported(name: str, closed: bool) -> InternalError | MemoryClosed:
    """A watch has ended before its task, with the memory if that was closed."""
    if closed:
        return MemoryClosed(f"the memory was closed while task {name!r} was followed; it goes on at the server")
    return InternalError(f"the server stopped reporting on task {name!r} before its end: see the server's log")


def not_taken(target: str, seconds: float) -> ServerUnavailable:
    """An upload has come to a standstill."""
    return ServerUnavailable(
        f"the server at {target} took no data for {seconds:g} s. Check that it is alive, then send the task again"
    )


def goes_on(name: str, target: str) -> str:
    """What an interrupt while waiting says."""
    return f"Task {name!r} goes on at {target}: memory.task({name!r}).watch() follows it, .cancel() stops it."
