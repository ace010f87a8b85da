"""Which calls have freed memory overwritten, and which of them leave a connection that may keep data."""

from types import SimpleNamespace

import grpc
import pytest

from memory_server import overwriting
from memory_server.interceptors.overwriting import OverwritingInterceptor
from memory_server.overwriting import Overwriting

CONTEXT = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:7")
PADDED = [b"header", b"data", bytes(300_000)]


@pytest.fixture
def state(monkeypatch):
    """Overwriting, of which the connections of peers are the peers themselves and never close."""
    monkeypatch.setattr(overwriting.allocator, "switch", lambda on: None)
    monkeypatch.setattr(overwriting, "Connections", lambda: SimpleNamespace(all={1}, of=lambda peer: {1}))
    return Overwriting(able=True)


def details(method):
    return SimpleNamespace(method=f"/memories.Service/{method}")


async def sent(messages):
    for message in messages:
        yield message


async def answered(state, method, handler, request):
    """The answer of a wrapped handler that is known once the call was announced."""

    async def continuation(_):
        assert state.on, "the handler was looked for before"
        return handler

    wrapped = await OverwritingInterceptor("memories.Service", state).intercept_service(continuation, details(method))
    return await (wrapped.stream_unary or wrapped.unary_unary)(request, CONTEXT)


def goes_off(state) -> bool:
    for _ in range(6):
        state.look()
    return not state.on


async def test_other_calls_are_left_as_they_are(state):
    handler = grpc.unary_unary_rpc_method_handler(None)

    async def continuation(_):
        return handler

    found = await OverwritingInterceptor("memories.Service", state).intercept_service(continuation, details("Sample"))
    assert found is handler
    assert not state.on


@pytest.mark.parametrize(("messages", "clean"), [(PADDED, True), (PADDED[:2], False), ([], False)])
async def test_a_task_that_ends_with_padding_leaves_nothing_behind(state, messages, clean):
    async def learn(contents, context):
        assert state.on
        return [content async for content in contents]

    handler = grpc.stream_unary_rpc_method_handler(learn)
    assert await answered(state, "LearnTask", handler, sent(messages)) == messages
    assert goes_off(state) == clean


async def test_a_task_that_was_refused_may_leave_data_behind(state):
    async def learn(contents, context):
        async for _ in contents:
            pass
        raise PermissionError

    with pytest.raises(PermissionError):
        await answered(state, "LearnTask", grpc.stream_unary_rpc_method_handler(learn), sent(PADDED))
    assert not goes_off(state)


@pytest.mark.parametrize(("x", "clean"), [(b"x" + bytes(256 << 10), True), (b"x", False)], ids=["padded", "plain"])
async def test_what_is_classified_is_overwritten_and_its_connection_waited_for_unless_it_was_padded(state, x, clean):
    async def classify(content, context):
        assert state.on
        return content

    handler = grpc.unary_unary_rpc_method_handler(classify)
    assert await answered(state, "Classify", handler, x) == x
    assert state.on
    assert goes_off(state) == clean
