"""Reading samples over a connection: as batches that a thread prefetches, or whole."""

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from memory_api.v1 import memory_pb2 as pb

from memory_client._relay import Reading, Relay, persistent
from memory_client.channel import Connection
from memory_client.errors import MemoryClosed, MemoryServiceError
from memory_client.sampling import PARTING_SECONDS, PREFETCH, Batch, Rebatcher, RowReader, Rows


def batches(connection: Connection, request: pb.SampleRequest, rebatcher: Rebatcher) -> Reading[Batch]:
    """The batches of a stream, prefetched by a thread of its own; fails as Memory.stream says."""

    def source(relay: Relay[Any]) -> Iterator[Batch]:
        for rows in _rows(relay, connection, RowReader.of_sample(request)):
            yield from rebatcher.add(rows)

    return Reading(connection, source, PREFETCH)


def collect(connection: Connection, reader: RowReader, total: int) -> Batch:
    """All `total` rows of a stream, as one batch."""

    def source(relay: Relay[Any]) -> Iterator[Batch]:
        rebatcher = Rebatcher(total, total)
        for rows in _rows(relay, connection, reader):
            yield from rebatcher.add(rows)

    with Reading(connection, source, 1) as reading:
        batch = next(reading, None)
        if batch is None:
            raise MemoryClosed("the memory was closed while it was sampled")
        with contextlib.suppress(MemoryServiceError):  # the rows are whole, whatever becomes of the call
            deque(reading.until(time.monotonic() + PARTING_SECONDS), maxlen=0)
        return batch


def _rows(relay: Relay[Any], connection: Connection, reader: RowReader) -> Iterator[Rows]:
    """All rows of a stream, whose calls are opened anew where they break."""

    def open_call() -> Any:
        return getattr(connection.stub, reader.method)(reader.opening(connection.shares_memory))

    try:
        yield from persistent(relay, connection, open_call, reader.rows, lambda: reader.complete)
    finally:
        reader.close()
    reader.ended()
