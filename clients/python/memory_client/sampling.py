"""A stream of samples without its connection: rows in order, cut into exact batches, resumed where a stream broke."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy.typing import NDArray

from memory_client import _decode
from memory_client._shared import SharedRing
from memory_client.errors import InternalError

Batch = tuple[NDArray[Any], NDArray[Any]]
"""x (n, *shape) as uint8, float16 or float32, and y (n,) as int64 or unicode; the arrays belong to the caller."""

PREFETCH = 2
"""Batches that wait for the caller, beside the one being put together."""

PARTING_SECONDS = 1.0
"""How long a call whose rows have all come may take to end; cut off at once, it would be one that its caller left."""

_SHARED_FROM = 256
"""Rows from which on a stream is worth the making of shared memory."""

Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""Gives an array of that shape and dtype, with any content, which nobody else writes to."""


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a stream, however the server cut them: `row` is the position of the first."""

    row: int
    x: NDArray[Any]
    y: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Course:
    """Which batches of a stream are read: every `stride`-th from `first` on. A reader counts their rows from 0.

    Arguments:
        batch_size: rows of a batch; the last one of the stream may be smaller.
        n: rows of the stream, whoever reads them; None for an endless one.
        first: index of a batch.
        stride: at least 1.
    """

    batch_size: int
    n: int | None
    first: int = 0
    stride: int = 1

    @classmethod
    def of(cls, request: pb.SampleRequest) -> "Course":
        """What a request asks for."""
        n = request.n if request.HasField("n") else None
        return cls(request.batch_size, n, request.start_at, max(1, request.stride))

    @property
    def batches(self) -> int | None:
        """How many batches are read; None: without end."""
        return None if self.n is None else len(range(self.first, -(-self.n // self.batch_size), self.stride))

    @property
    def rows(self) -> int | None:
        """How many rows are read; None: without end."""
        if self.n is None or not self.batches:
            return self.batches
        last = self.first + (self.batches - 1) * self.stride
        return (self.batches - 1) * self.batch_size + min(self.batch_size, self.n - last * self.batch_size)

    def batch(self, row: int) -> int:
        """The batch of the stream that holds the reader's row."""
        return self.first + row // self.batch_size * self.stride

    def position(self, row: int) -> int:
        """Where the reader's row stands in the stream."""
        return self.batch(row) * self.batch_size + row % self.batch_size


class RowReader:
    """Decodes one stream; when the stream breaks, it is opened anew at the first batch that was not complete.

    A seeded stream pins the revision that it began with, so that a break changes nothing that follows it.

    Arguments:
        method: that is called, "Sample" or "Interpolate".
        request: its request.
        course: what is asked for.

    `close` it at the end: it gives back the memory that it shares with a server.
    """

    def __init__(self, method: str, request: pb.SampleRequest | pb.InterpolateRequest, course: Course) -> None:
        self.method = method
        self._request = deepcopy(request)
        self._course = course
        self._row = 0
        self._header: pb.SampleHeader | None = None
        self._classes: NDArray[Any] = np.empty(0)
        self._ring: SharedRing | None = None

    @classmethod
    def of_sample(cls, request: pb.SampleRequest) -> "RowReader":
        """A reader of what `Sample` sends."""
        return cls("Sample", request, Course.of(request))

    def opening(self, share: bool) -> pb.SampleRequest | pb.InterpolateRequest:
        """The request at the present position; the rows of an unfinished batch will come again.

        Arguments:
            share: whether the server may be offered memory.
        """
        self._row -= self._row % self._course.batch_size
        self._request.start_at = self._course.batch(self._row)
        large = self._course.rows is None or self._course.rows - self._row >= _SHARED_FROM
        self._share(SharedRing.made() if share and large else None)
        return self._request

    @property
    def complete(self) -> bool:
        """Whether the last row has come; never, if there are none to come."""
        return 0 < self._row == self._course.rows

    def rows(self, message: pb.SampleResponse) -> Iterator[Rows]:
        """The rows of one message, if it has any.

        Raises:
            InternalError: they are not those that follow.
        """
        if message.HasField("header"):
            self._begin(message.header)
        elif message.chunk.y:
            yield self._decoded(message.chunk)

    def ended(self) -> None:
        """Raises InternalError unless the stream was to end here."""
        if self._course.rows is None or self._row < self._course.rows:
            position = self._course.position(self._row)
            raise InternalError(f"the server ended the stream at row {position}, before its end: see the server's log")

    def close(self) -> None:
        """Gives shared memory back; may be called more than once."""
        self._share(None)

    def _begin(self, header: pb.SampleHeader) -> None:
        self._header = header
        if not header.shared:
            self._share(None)
        self._classes = _decode.label_array(_decode.labels(header.classes))
        if self._request.HasField("seed"):
            self._request.revision = header.revision

    def _decoded(self, chunk: pb.SampleChunk) -> Rows:
        if self._header is None:
            raise InternalError("the server sent rows before their header: upgrade the server or this client")
        due = self._course.position(self._row)
        if chunk.row != due:
            raise InternalError(f"the server sent row {chunk.row} where row {due} follows: see the server's log")
        x = _decode.rows(self._header.spec, self._content(chunk))
        y = self._classes[_decode.indices(chunk.y)]
        if len(x) != len(y):
            raise InternalError(f"the server sent {len(x)} rows with {len(y)} labels: see the server's log")
        rows = Rows(self._row, x, y)
        self._row += len(y)
        return rows

    def _content(self, chunk: pb.SampleChunk) -> bytes:
        """The bytes of x, wherever they are."""
        if not chunk.HasField("shared"):
            return chunk.x
        if self._ring is None:
            raise InternalError("the server put rows into memory that it did not accept: see the server's log")
        return self._ring.take(chunk.shared)

    def _share(self, ring: SharedRing | None) -> None:
        """Has one stream at a time share memory: what was shared before is given back."""
        if self._ring is not None:
            self._ring.close()
        self._ring = ring
        self._request.ClearField("shared_memory")
        if ring is not None:
            self._request.shared_memory.CopyFrom(ring.offer)


class Rebatcher:
    """Puts rows, however cut, into batches: each row is written once, from its message to its place.

    Arguments:
        batch_size: rows of a batch.
        n: rows that come, which may end within a batch; None: without end.
        allocate: makes the array of each batch's x.
    """

    def __init__(self, batch_size: int, n: int | None, allocate: Allocate = np.empty) -> None:
        self._batch_size = batch_size
        self._n = n
        self._allocate = allocate
        self._x = self._y = np.empty(0)

    @classmethod
    def of_sample(cls, request: pb.SampleRequest, allocate: Allocate = np.empty) -> "Rebatcher":
        """What makes the batches that a request asks for."""
        course = Course.of(request)
        return cls(course.batch_size, course.rows, allocate)

    def add(self, rows: Rows) -> Iterator[Batch]:
        """The batches that these rows complete. A reopened stream may repeat rows of the batch that is not complete."""
        taken = 0
        while taken < len(rows):
            place = (rows.row + taken) % self._batch_size
            if place == 0:
                self._begin(rows.row + taken, rows)
            end = min(len(self._x), place + len(rows) - taken)
            part = slice(taken, taken + end - place)
            self._x[place:end], self._y[place:end] = rows.x[part], rows.y[part]
            taken = part.stop
            if end == len(self._x):
                yield self._x, self._y if self._y.dtype.kind == "i" else self._y.astype(np.str_)

    def _begin(self, row: int, like: Rows) -> None:
        size = self._batch_size if self._n is None else min(self._batch_size, self._n - row)
        if size < 1:
            raise InternalError(f"the server sent row {row} where {self._n} were asked for: see the server's log")
        self._x = self._allocate((size, *like.x.shape[1:]), like.x.dtype)
        self._y = np.empty(size, like.y.dtype if like.y.dtype.kind == "i" else object)  # texts: as long as they come
