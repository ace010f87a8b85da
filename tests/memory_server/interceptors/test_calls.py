"""While the reader of a stream stalls, its last message is held by gRPC alone, as bytes."""

import weakref
from contextlib import asynccontextmanager, contextmanager, nullcontext
from types import SimpleNamespace

import grpc

from memory_server.codec import answers
from memory_server.interceptors.calls import CallInterceptor, Patience


class Message:
    """One that can be referred to weakly."""


class Watched:
    """A call's context, its telemetry and its guard: all that happens is that messages are written."""

    trailer = ()

    def __init__(self):
        self.made = []
        self.written = []

    def serialised(self, message):
        self.made.append(weakref.ref(message))
        return b"bytes"

    async def write(self, content):
        self.written.append((content, self.made[-1]()))

    @contextmanager
    def call(self, method, context):
        yield self

    @contextmanager
    def visit(self, method, caller, context, request):
        yield SimpleNamespace(answered=lambda answer: answer)

    @asynccontextmanager
    async def identified(self, method, context):
        yield None

    def received(self, message):
        pass

    def sent(self, message):
        assert isinstance(message, Message)


async def test_a_message_that_is_being_written_is_held_as_bytes_alone():
    watched = Watched()

    async def behaviour(request, context):
        for _ in range(3):
            yield Message()

    handler = grpc.unary_stream_rpc_method_handler(behaviour, bytes, watched.serialised)

    async def found(details):
        return handler

    interceptor = CallInterceptor("memory.v1.Service", watched, watched, Patience(1.0, 1.0))
    wrapped = await interceptor.intercept_service(found, SimpleNamespace(method="/memory.v1.Service/Sample"))
    await wrapped.unary_stream(b"", watched)
    assert watched.written == [(b"bytes", None)] * 3


async def test_a_stream_of_samples_keeps_no_message_that_it_has_given(monkeypatch):
    monkeypatch.setattr(answers, "_sample", lambda answer, ring: Message())

    class Stream:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            pass

        async def __aiter__(self):
            yield "opening"
            yield "rows"

    messages = answers.samples(Stream(), nullcontext())
    held = weakref.ref(await anext(messages))
    assert held() is None
