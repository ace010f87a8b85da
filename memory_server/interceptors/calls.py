"""What happens around every call of the service: it is watched, its bytes are read, its exceptions become statuses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from memory_server.errors import BadRequest
from memory_server.interceptors.errors import translated
from memory_server.interceptors.telemetry import Telemetry

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A `grpc.RpcMethodHandler`: four optional behaviours, of which one is there."""

Reader = Callable[[bytes], Any]
"""From bytes to a message."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the methods of one service; others, such as health checks, are left alone.

    Arguments:
        service: full name of the service.
        telemetry: watches the calls.
    """

    def __init__(self, service: str, telemetry: Telemetry) -> None:
        self._prefix = f"/{service}/"
        self._telemetry = telemetry

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]], details: grpc.HandlerCallDetails
    ) -> Handler:
        """The handler of a call, wrapped."""
        handler = await continuation(details)
        if handler is None or not details.method.startswith(self._prefix):
            return handler
        return self._wrapped(handler, details.method.removeprefix(self._prefix))

    def _wrapped(self, handler: Handler, method: str) -> Handler:
        # gRPC would answer bytes that are no message with UNKNOWN: they are read in here, where errors have a status.
        codec = {"response_serializer": handler.response_serializer}
        read = _reader(handler.request_deserializer)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._streaming(handler.unary_stream, method, read), **codec)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._collecting(handler.stream_unary, method, read), **codec)
        return grpc.unary_unary_rpc_method_handler(self._single(handler.unary_unary, method, read), **codec)

    def _single(self, behaviour: Handler, method: str, read: Reader) -> Callable[[bytes, Context], Awaitable[Any]]:
        async def call(request: bytes, context: Context) -> Any:
            with self._telemetry.call(method, context):
                async with translated(method, context):
                    return await behaviour(read(request), context)

        return call

    def _collecting(
        self, behaviour: Handler, method: str, read: Reader
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[Any]]:
        async def call(requests: AsyncIterator[bytes], context: Context) -> Any:
            with self._telemetry.call(method, context):
                async with translated(method, context):
                    return await behaviour(self._counted(requests, read), context)

        return call

    def _streaming(self, behaviour: Handler, method: str, read: Reader) -> Callable[[bytes, Context], Awaitable[None]]:
        async def call(request: bytes, context: Context) -> None:
            with self._telemetry.call(method, context):
                async with translated(method, context), aclosing(behaviour(read(request), context)) as answers:
                    async for answer in answers:
                        await context.write(answer)
                        self._telemetry.sent(answer)

        return call

    async def _counted(self, requests: AsyncIterator[bytes], read: Reader) -> AsyncIterator[Any]:
        async for content in requests:
            request = read(content)
            self._telemetry.received(request)
            yield request


def _reader(parse: Reader) -> Reader:
    """Reads a message of one type. Raises BadRequest where there is none."""

    def read(content: bytes) -> Any:
        try:
            return parse(content)
        except DecodeError:
            raise BadRequest("message", f"these {len(content)} bytes are no message of this method") from None

    return read
