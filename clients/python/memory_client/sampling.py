"""Reading a stream of samples: rows in order, regrouped into exact batches, resumed where a stream broke."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy.typing import NDArray

from memory_client import _decode
from memory_client._relay import Reading, Relay, persistent
from memory_client._shared import SharedRing
from memory_client.channel import Connection
from memory_client.errors import InternalError

Batch = tuple[NDArray[Any], NDArray[Any]]
"""x (n, *shape) as uint8, float16 or float32, and y (n,) as int64 or unicode; the arrays belong to the caller."""

PREFETCH = 2
"""Batches that wait for the caller, beside the one being put together."""

_SHARED_FROM = 256
"""Rows from which on a stream is worth the making of shared memory."""


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a stream, however the server cut them: `row` is the position of the first."""

    row: int
    x: NDArray[Any]
    y: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y)

    def part(self, start: int, end: int) -> "Rows":
        """The rows from position `start` to before `end`, both counted in the stream."""
        within = slice(start - self.row, end - self.row)
        return Rows(start, self.x[within], self.y[within])


class RowReader:
    """Decodes one stream; when the stream breaks, reopens it at the first batch that was not complete.

    A seeded stream pins the revision that it began with, so that a break changes nothing that follows it.

    Arguments:
        method: that is called, "Sample" or "Interpolate".
        request: its request.
        batch_size: rows of a batch.
        total: rows of the stream, counted from batch 0; None for an endless one.
    """

    def __init__(
        self,
        connection: Connection,
        method: str,
        request: pb.SampleRequest | pb.InterpolateRequest,
        batch_size: int,
        total: int | None,
    ) -> None:
        self._connection = connection
        self._method = method
        self._request = deepcopy(request)
        self._batch_size, self._total = batch_size, total
        self._row = request.start_at * batch_size
        self._header: pb.SampleHeader | None = None
        self._classes: NDArray[Any] = np.empty(0)
        self._ring: SharedRing | None = None

    @classmethod
    def of_sample(cls, connection: Connection, request: pb.SampleRequest) -> "RowReader":
        """A reader of what `Sample` sends."""
        return cls(connection, "Sample", request, request.batch_size, request.n if request.HasField("n") else None)

    def __call__(self, relay: Relay[Any]) -> Iterator[Rows]:
        """All rows from the batch `start_at` on; a reopened stream repeats the rows of its unfinished batch."""
        try:
            yield from persistent(relay, self._connection, self._open)
        finally:
            self._share(None)
        if self._total is None or self._row < self._total:
            raise InternalError(f"the server ended the stream at row {self._row}, before its end: see the server's log")

    def _open(self) -> tuple[Any, Any]:
        self._request.start_at = self._row // self._batch_size
        self._row = self._request.start_at * self._batch_size
        large = self._total is None or self._total - self._row >= _SHARED_FROM
        self._share(SharedRing.made() if large and self._connection.shares_memory else None)
        return getattr(self._connection.stub, self._method)(self._request), self._rows

    def _rows(self, message: pb.SampleResponse) -> Iterator[Rows]:
        if message.HasField("header"):
            self._begin(message.header)
        elif message.chunk.y:
            yield self._decoded(message.chunk)

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
        if chunk.row != self._row:
            raise InternalError(f"the server sent row {chunk.row} where row {self._row} follows: see the server's log")
        x = _decode.rows(self._header.spec, self._content(chunk))
        y = self._classes[_decode.indices(chunk.y)]
        if len(x) != len(y):
            raise InternalError(f"the server sent {len(x)} rows with {len(y)} labels: see the server's log")
        self._row += len(y)
        return Rows(chunk.row, x, y)

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
    """Regroups rows, however cut, into the batches of a stream.

    Arguments:
        batch_size: rows of a batch.
        n: rows of the stream, which may end within a batch; None for an endless one.
    """

    def __init__(self, batch_size: int, n: int | None) -> None:
        self._batch_size = batch_size
        self._n = n
        self._parts: list[Rows] = []

    def add(self, rows: Rows) -> Iterator[Batch]:
        """The batches that these rows complete."""
        start, end = rows.row, rows.row + len(rows)
        while start < end:
            if start % self._batch_size == 0:
                self._parts.clear()  # a reopened stream repeats its unfinished batch
            due = self._end_of_batch(start)
            self._parts.append(rows.part(start, min(due, end)))
            if due <= end:
                yield self._joined()
            start = due

    def _end_of_batch(self, row: int) -> int:
        due = (row // self._batch_size + 1) * self._batch_size
        return due if self._n is None else min(due, self._n)

    def _joined(self) -> Batch:
        x = np.concatenate([part.x for part in self._parts])
        y = np.concatenate([part.y for part in self._parts])
        self._parts.clear()
        return x, y


def batches(connection: Connection, request: pb.SampleRequest) -> Reading[Batch]:
    """The batches of a stream, prefetched by a thread of its own; fails as Memory.stream says."""

    def source(relay: Relay[Any]) -> Iterator[Batch]:
        rebatcher = Rebatcher(request.batch_size, request.n if request.HasField("n") else None)
        for rows in RowReader.of_sample(connection, request)(relay):
            yield from rebatcher.add(rows)

    return Reading(connection, source, PREFETCH)


def collect(connection: Connection, reader: RowReader, total: int) -> Batch:
    """All `total` rows of a stream, each written once into its place."""
    with Reading(connection, reader, 4) as parts:
        first = next(parts)
        x = np.empty((total, *first.x.shape[1:]), first.x.dtype)
        y = np.empty(total, first.y.dtype if first.y.dtype.kind == "i" else object)  # texts: as long as they come
        _place(first, x, y)
        for rows in parts:
            _place(rows, x, y)
    return x, y if y.dtype.kind == "i" else y.astype(np.str_)


def _place(rows: Rows, x: NDArray[Any], y: NDArray[Any]) -> None:
    end = rows.row + len(rows)
    if end > len(y):
        raise InternalError(f"the server sent {end} rows where {len(y)} were asked for: see the server's log")
    x[rows.row : end] = rows.x
    y[rows.row : end] = rows.y
