"""What one client may have open."""

from contextlib import AsyncExitStack

import pytest
from memory_api.v1 import memory_pb2 as pb

from memory_server.errors import ClientLimit
from memory_server.interceptors.access import Access
from memory_server.interceptors.guard import Guard
from memory_server.security.streams import OpenStreams

METHODS = pb.DESCRIPTOR.services_by_name["MemoryService"].methods
UPLOADS = [method.name for method in METHODS if method.client_streaming]
STREAMS = [method.name for method in METHODS if method.server_streaming and method.name != "ExportMemory"]
HEAVY = ["Classify", "ExportMemory"]
SHORT = [method.name for method in METHODS if method.name not in (*UPLOADS, *STREAMS, *HEAVY)]


class Context:
    def peer(self):
        return "ipv4:10.0.0.7:1234"

    def auth_context(self):
        return {}


class Opened(AsyncExitStack):
    """Calls that go on until the block is left; an upload among them has sent nothing yet."""

    def __init__(self):
        super().__init__()
        self.guard = Guard(Access(None), None, OpenStreams(1), OpenStreams(1, "others", "--client-calls"))

    async def one_more(self, method):
        if method in UPLOADS:
            await self.enter_async_context(self.guard.upload(method, Context()))
        else:
            caller = await self.enter_async_context(self.guard.identified(method, Context()))
            self.enter_context(self.guard.visit(method, caller, Context(), pb.GetMemoryRequest(name="m")))


@pytest.mark.parametrize(
    ("first", "second", "setting"),
    [("Sample", method, "--client-streams") for method in STREAMS]
    + [("LearnTask", method, "--client-calls") for method in (*UPLOADS, *HEAVY)],
)
async def test_a_call_that_lasts_or_holds_much_counts_as_one_of_its_client(first, second, setting):
    refused = rf"10\.0\.0\.7 has 1 .* open, the most for one client \({setting}\); close"
    async with Opened() as opened:
        await opened.one_more(first)
        with pytest.raises(ClientLimit, match=refused):
            await opened.one_more(second)


async def test_nothing_is_gathered_for_an_audit_log_that_nobody_keeps(monkeypatch):
    monkeypatch.setattr("memory_server.interceptors.guard._who", None)
    async with Opened() as opened:
        await opened.one_more("Sample")
        with pytest.raises(ClientLimit):
            await opened.one_more("Sample")


async def test_short_calls_are_not_counted():
    async with Opened() as opened:
        for method in (*SHORT, *SHORT, "Sample", "Classify", *SHORT):
            await opened.one_more(method)
