"""Reading samples on an event loop: as batches that a task prefetches, or whole."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from memory_api.v1 import memory_pb2 as pb

from memory_client.aio._reading import Reading, persistent
from memory_client.aio.channel import Connection
from memory_client.errors import MemoryClosed, MemoryServiceError
from memory_client.sampling import PARTING_SECONDS, PREFETCH, Batch, Rebatcher, RowReader, Rows


def batches(connection: Connection, request: pb.SampleRequest, rebatcher: Rebatcher) -> Reading[Batch]:
    """The batches of a stream, prefetched by a task of its own; fails as Memory.stream says."""
    return Reading(connection, lambda: _batches(connection, RowReader.of_sample(request), rebatcher), PREFETCH)


async def collect(connection: Connection, reader: RowReader, total: int) -> Batch:
    """All `total` rows of a stream, as one batch."""
    async with Reading(connection, lambda: _batches(connection, reader, Rebatcher(total, total)), 1) as whole:
        batch = await anext(whole, None)
        if batch is None:
            raise MemoryClosed("the memory was closed while it was sampled")
        with suppress(MemoryServiceError, TimeoutError):  # the rows are whole, whatever becomes of the call
            async with asyncio.timeout(PARTING_SECONDS):
                async for _ in whole:
                    pass
        return batch


async def _batches(connection: Connection, reader: RowReader, rebatcher: Rebatcher) -> AsyncGenerator[Batch, None]:
    async with aclosing(_rows(connection, reader)) as parts:
        async for rows in parts:
            for batch in rebatcher.add(rows):
                yield batch


async def _rows(connection: Connection, reader: RowReader) -> AsyncGenerator[Rows, None]:
    """All rows of a stream, whose calls are opened anew where they break."""

    def open_call() -> object:
        return getattr(connection.stub, reader.method)(reader.opening(connection.shares_memory))

    try:
        async with aclosing(persistent(connection, open_call, reader.rows, lambda: reader.complete)) as parts:
            async for rows in parts:
                yield rows
    finally:
        reader.close()
    reader.ended()
