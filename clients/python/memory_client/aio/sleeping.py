"""Following the sleep of a memory on an event loop."""

import asyncio

from memory_api.v1 import memory_pb2 as pb

from memory_client import _decode
from memory_client.aio._reading import Reading, persistent
from memory_client.aio.channel import Connection
from memory_client.errors import CannotSleep
from memory_client.progress import SleepListener
from memory_client.sleeping import sleeps_on, unreported
from memory_client.types import MemoryInfo

_AHEAD = 2


async def follow_sleep(connection: Connection, memory: str, shown: SleepListener) -> MemoryInfo:
    """See `memory_client.sleeping.follow_sleep`."""
    asleep, request = False, pb.SleepRequest(memory=memory)
    try:
        async with Reading(
            connection, lambda: persistent(connection, lambda: connection.stub.Sleep(request), _decode.sleep), _AHEAD
        ) as seen:
            async for status in seen:
                if isinstance(status, MemoryInfo):
                    return status
                asleep = True
                shown.sleep(status)
            closed = seen.closed
    except CannotSleep:
        if not asleep:
            raise
        return _decode.memory(await connection.unary("GetMemory", pb.GetMemoryRequest(name=memory, brief=True)))
    except asyncio.CancelledError as interrupt:
        interrupt.add_note(sleeps_on(memory, connection.target))
        raise
    raise unreported(memory, closed)
