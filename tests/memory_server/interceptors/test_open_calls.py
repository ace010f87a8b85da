"""Calls that wait, for a reader or for data, when their token is revoked."""

import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace

import grpc
import pytest
from memory_api.v1 import memory_pb2 as pb

from memory_server.interceptors.access import Access
from memory_server.interceptors.calls import CallInterceptor, Patience
from memory_server.interceptors.guard import Guard
from memory_server.interceptors.open_calls import OpenCalls
from memory_server.security.rights import Right
from memory_server.security.streams import OpenStreams
from memory_server.security.tokens import Record, Tokens, digest_of

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def record(token):
    return Record(name=token, sha256=digest_of(token).hex(), rights=frozenset(Right), memories=("*",))


class File:
    """The tokens of alice and bob, until one is revoked; counts how often it is asked."""

    def __init__(self):
        self.tokens, self.asked = Tokens(tokens=(record("alice"), record("bob"))), 0

    @property
    def value(self):
        self.asked += 1
        return self.tokens

    def revoke(self, name):
        self.tokens = Tokens(tokens=tuple(one for one in self.tokens.tokens if one.name != name))


class Context:
    """A call of alice or bob whose reader reads nothing."""

    def __init__(self, token):
        self._token = token
        self.waiting, self.status = asyncio.Event(), None

    def peer(self):
        return "ipv4:10.0.0.7:1234"

    def auth_context(self):
        return {}

    def invocation_metadata(self):
        return (("authorization", f"Bearer {self._token}"),)

    async def wait(self):
        self.waiting.set()
        await asyncio.Event().wait()

    async def write(self, content):
        await self.wait()

    async def abort(self, code, details, trailers):
        self.status = code
        raise grpc.aio.AbortError

    async def silence(self):
        yield pb.LearnTaskRequest(header=pb.LearnTaskHeader(memory="m")).SerializeToString()
        await self.wait()


class Lines:
    """An audit log of events and codes."""

    def __init__(self):
        self.written = []

    def write(self, event, **facts):
        self.written.append((event, facts["client"] if "client" in facts else facts["code"]))


@pytest.fixture
def file():
    return File()


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def guard(file, lines):
    return Guard(Access(file, lambda: NOW), lines, OpenStreams(10), OpenStreams(10))


async def stalled(request, context):
    while True:
        yield pb.SampleResponse()


async def uploaded(requests, context):
    async for _ in requests:
        pass


CALLS = {
    "Sample": grpc.unary_stream_rpc_method_handler(
        stalled, pb.SampleRequest.FromString, pb.SampleResponse.SerializeToString
    ),
    "LearnTask": grpc.stream_unary_rpc_method_handler(
        uploaded, pb.LearnTaskRequest.FromString, pb.Task.SerializeToString
    ),
}


async def begun(guard, method, token):
    """A call that waits for its client, and its context."""

    async def handler(details):
        return CALLS[method]

    call = SimpleNamespace(trailer=("", ""), received=lambda _: None, sent=lambda _: None)
    telemetry = SimpleNamespace(call=lambda *_: nullcontext(call))
    interceptor = CallInterceptor("s", telemetry, guard, Patience(600.0, 600.0))
    wrapped = await interceptor.intercept_service(handler, SimpleNamespace(method=f"/s/{method}"))
    context = Context(token)
    sent = context.silence() if method == "LearnTask" else pb.SampleRequest(memory="m").SerializeToString()
    task = asyncio.create_task((wrapped.unary_stream or wrapped.stream_unary)(sent, context))
    await context.waiting.wait()
    return task, context


@pytest.mark.parametrize("method", CALLS)
async def test_a_call_that_waits_for_its_client_ends_when_its_token_is_revoked(guard, file, lines, method):
    revoked, told = await begun(guard, method, "alice")
    other, _ = await begun(guard, method, "bob")
    await guard.open_calls.look()
    file.revoke("alice")
    await guard.open_calls.look()
    await guard.open_calls.look()
    with pytest.raises(grpc.aio.AbortError):
        await revoked
    assert told.status is grpc.StatusCode.UNAUTHENTICATED
    assert lines.written == [("begin", "alice"), ("begin", "bob"), ("end", "UNAUTHENTICATED")]
    assert not other.done()
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    assert lines.written[-1] == ("end", "CANCELLED")


async def test_a_look_asks_once_for_each_caller_and_finds_nothing_when_all_have_ended(guard, file):
    calls = [await begun(guard, "Sample", token) for token in ("alice", "bob") for _ in range(5)]
    before = file.asked
    await guard.open_calls.look()
    assert file.asked == before + 2
    for task, _ in calls:
        task.cancel()
    await asyncio.gather(*(task for task, _ in calls), return_exceptions=True)
    before = file.asked
    await guard.open_calls.look()
    assert file.asked == before


async def test_other_timeouts_are_left_alone(file):
    access = Access(file, lambda: NOW)
    with pytest.raises(TimeoutError):
        async with OpenCalls(access).one_more(access.caller(Context("alice"))):
            raise TimeoutError
