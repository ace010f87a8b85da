"""What happens around every call of the service: it is watched, guarded and read, its exceptions become statuses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health

from memory_server.codec.answers import Samples
from memory_server.errors import BadRequest, UploadStalled
from memory_server.interceptors.errors import translated
from memory_server.interceptors.guard import Guard, Visit
from memory_server.interceptors.telemetry import Call, Telemetry

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A `grpc.RpcMethodHandler`: four optional behaviours, of which one is there."""

Reader = Callable[[bytes], Any]
"""From bytes to a message."""

Writer = Callable[[Any], bytes]
"""From a message to bytes."""

_LEAST_RATE = 64 << 10
"""Bytes a second of an upload that may go on for as long as it likes."""

_HEALTH = f"/{health.SERVICE_NAME}/"


@dataclass(frozen=True)
class Patience:
    """How long the server waits for an upload, which holds a place all the while.

    Arguments:
        idle: seconds for which nothing may come.
        total: seconds that all of it may take, and one more for each 64 KiB of it.
    """

    idle: float
    total: float

    def seconds(self, received: int) -> float:
        """What an upload may take of which so many bytes have come."""
        return self.total + received / _LEAST_RATE

    def lost(self, received: int, slow: bool) -> UploadStalled:
        """Why an upload is ended."""
        why, fix = f"nothing came for {self.idle:g} s", "send it again"
        if slow:
            why = f"{received} bytes came in {self.seconds(received):g} s, the longest for so few"
            fix = "gather it first and send it again, or have the server's --upload-seconds raised"
        return UploadStalled(f"{why}, so what had come was wiped; {fix}")


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the methods of one service. Of others, health checks are left alone, and reflection is guarded.

    Arguments:
        service: full name of the service.
        telemetry: watches the calls.
        guard: lets them in.
        patience: with uploads.
    """

    def __init__(self, service: str, telemetry: Telemetry, guard: Guard, patience: Patience) -> None:
        self._prefix = f"/{service}/"
        self._telemetry = telemetry
        self._guard = guard
        self._patience = patience

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]], details: grpc.HandlerCallDetails
    ) -> Handler:
        """The handler of a call, wrapped."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_HEALTH):
            return handler
        if not details.method.startswith(self._prefix):
            return self._guarded(handler, details.method.removeprefix("/"))
        return self._wrapped(handler, details.method.removeprefix(self._prefix))

    def _wrapped(self, handler: Handler, method: str) -> Handler:
        # gRPC would answer bytes that are no message with UNKNOWN: they are read in here, where errors have a status.
        codec = {"response_serializer": handler.response_serializer}
        read = _reader(handler.request_deserializer)
        if handler.response_streaming:
            write = handler.response_serializer
            return grpc.unary_stream_rpc_method_handler(self._streaming(handler.unary_stream, method, read, write))
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._collecting(handler.stream_unary, method, read), **codec)
        return grpc.unary_unary_rpc_method_handler(self._single(handler.unary_unary, method, read), **codec)

    def _single(self, behaviour: Handler, method: str, read: Reader) -> Callable[[bytes, Context], Awaitable[Any]]:
        async def answer(content: bytes, context: Context) -> Any:
            with self._telemetry.call(method, context) as call:
                async with translated(method, context, call.trailer), self._guard.identified(method, context) as caller:
                    call.received(request := read(content))
                    with self._guard.visit(method, caller, context, request) as visit:
                        answer = visit.answered(await behaviour(request, context))
                    call.sent(answer)
                    return answer

        return answer

    def _collecting(
        self, behaviour: Handler, method: str, read: Reader
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[Any]]:
        async def answer(contents: AsyncIterator[bytes], context: Context) -> Any:
            with self._telemetry.call(method, context) as call:
                async with translated(method, context, call.trailer), self._guard.upload(method, context) as caller:
                    requests = self._read(contents, read, call)
                    first = await anext(requests, None)
                    with self._guard.visit(method, caller, context, first) as visit:
                        return visit.answered(await behaviour(_confirmed(first, requests, visit), context))

        return answer

    def _streaming(
        self, behaviour: Handler, method: str, read: Reader, write: Writer
    ) -> Callable[[bytes, Context], Awaitable[None]]:
        async def answer(content: bytes, context: Context) -> None:
            with self._telemetry.call(method, context) as call:
                async with translated(method, context, call.trailer), self._guard.identified(method, context) as caller:
                    call.received(request := read(content))
                    with self._guard.visit(method, caller, context, request) as visit:
                        async with aclosing(behaviour(request, context)) as answers:
                            async for answer in answers:
                                call.sent(answer)
                                shown = visit.answered(answer)
                                written = shown.written() if isinstance(shown, Samples) else write(shown)
                                del answer, shown  # gRPC has a copy of the bytes, and the reader may stall for long
                                await context.write(written)

        return answer

    def _guarded(self, handler: Handler, method: str) -> Handler:
        """A conversation of another service, for callers with a valid token alone."""

        async def answer(requests: AsyncIterator[Any], context: Context) -> None:
            async with translated(method, context), self._guard.identified(method, context):
                async for answer in handler.stream_stream(requests, context):
                    await context.write(answer)

        return grpc.stream_stream_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _read(self, contents: AsyncIterator[bytes], read: Reader, call: Call) -> AsyncIterator[Any]:
        """The messages of an upload. Raises UploadStalled when none comes for too long, or all too slowly."""
        clock = asyncio.get_running_loop().time
        began, received = clock(), 0
        while True:
            left = self._patience.seconds(received) - (clock() - began)
            try:
                async with asyncio.timeout(min(self._patience.idle, left)):
                    content = await anext(contents, None)
            except TimeoutError:
                raise self._patience.lost(received, slow=left < self._patience.idle) from None
            if content is None:
                return
            received += len(content)
            request = read(content)
            call.received(request)
            yield request


async def _confirmed(first: Any, requests: AsyncIterator[Any], visit: Visit) -> AsyncIterator[Any]:
    """The messages of an upload, for as long as its caller may send them."""
    if first is not None:
        yield first
    async for request in requests:
        visit.received()
        yield request


def _reader(parse: Reader) -> Reader:
    """Reads a message of one type. Raises BadRequest where there is none."""

    def read(content: bytes) -> Any:
        try:
            return parse(content)
        except DecodeError:
            raise BadRequest("message", f"these {len(content)} bytes are no message of this method") from None

    return read
