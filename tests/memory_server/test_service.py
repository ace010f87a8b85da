import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from memory_api.v1 import memory_pb2 as pb

from memory_server.errors import ServerBusy, ShuttingDown
from memory_server.service import MemoryService
from memory_server.store.arrival import Arrival
from memory_server.store.datadir import ARRIVALS, DataDir

NOTHING: Any = None


async def accepted(_metadata: Any) -> None:
    """A client is told to send on."""


CONTEXT: Any = SimpleNamespace(send_initial_metadata=accepted)


def service_of(store: Any) -> MemoryService:
    return MemoryService(store, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)


async def test_a_server_that_drains_imports_nothing():
    service = service_of(SimpleNamespace(catalog=None))
    service.drain()
    with pytest.raises(ShuttingDown, match="send"):
        await service.ImportMemory(NOTHING, NOTHING)


async def test_an_import_that_is_cancelled_while_it_writes_holds_nobody_up_and_leaves_nothing(tmp_path, monkeypatch):
    writing, written = threading.Event(), threading.Event()

    def feed(arrival, _):
        with arrival._lock:
            writing.set()
            written.wait(60)

    async def messages():
        yield pb.ImportMemoryRequest(header=pb.ImportMemoryHeader(memory="digits"))
        yield pb.ImportMemoryRequest(chunk=b"content")

    monkeypatch.setattr(Arrival, "feed", feed)
    with DataDir(tmp_path) as store:
        service = service_of(store)
        importing = asyncio.create_task(service.ImportMemory(messages(), CONTEXT))
        await asyncio.to_thread(writing.wait, 60)
        with pytest.raises(ServerBusy):
            await service.ImportMemory(messages(), CONTEXT)
        threading.Timer(5, written.set).start()  # or a loop that is held up would be so for ever
        importing.cancel()
        await asyncio.sleep(0.05)
        assert not written.is_set(), "the event loop waited for the disk"
        written.set()
        with pytest.raises(asyncio.CancelledError):
            await importing
        assert list((tmp_path / ARRIVALS).iterdir()) == []
