"""Following the sleep of a memory."""

from collections.abc import Iterator
from typing import Any

from memory_api.v1 import memory_pb2 as pb

from memory_client import _decode
from memory_client._relay import Reading, Relay, persistent
from memory_client.channel import Connection
from memory_client.errors import CannotSleep, InternalError, MemoryClosed
from memory_client.progress import SleepListener
from memory_client.types import MemoryInfo, Sleep

_AHEAD = 2


def follow_sleep(connection: Connection, memory: str, shown: SleepListener) -> MemoryInfo:
    """Has a memory sleep, and waits for the end. See `Memory.sleep`.

    Where the connection breaks it is asked for again: a server that crashed begins anew, one that is done has nothing
    to consolidate any more.
    """
    asleep = False

    def source(relay: Relay[Any]) -> Iterator[Sleep | MemoryInfo]:
        request = pb.SleepRequest(memory=memory)
        return persistent(relay, connection, lambda: connection.stub.Sleep(request), _decode.sleep)

    try:
        with Reading(connection, source, _AHEAD) as seen:
            for status in seen:
                if isinstance(status, MemoryInfo):
                    return status
                asleep = True
                shown.sleep(status)
            closed = seen.closed
    except CannotSleep:
        if not asleep:
            raise
        return _decode.memory(connection.unary("GetMemory", pb.GetMemoryRequest(name=memory, brief=True)))
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(sleeps_on(memory, connection.target))
        raise
    raise unreported(memory, closed)


def sleeps_on(memory: str, target: str) -> str:
    """What an interrupt while waiting says."""
    return f"Memory {memory!r} sleeps on at {target}: memory.sleep() follows it again."


def unreported(memory: str, closed: bool) -> InternalError | MemoryClosed:
    """A sleep was not followed to its end, or not once the memory was closed."""
    if closed:
        return MemoryClosed(f"the memory was closed while the sleep of {memory!r} was followed; it sleeps on")
    return InternalError(f"the server stopped reporting on the sleep of memory {memory!r}: see the server's log")
