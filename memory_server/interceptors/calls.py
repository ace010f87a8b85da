"""What happens around every call of the service: it is watched, and its exceptions become statuses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

from memory_server.interceptors.errors import translated
from memory_server.interceptors.telemetry import Call, Telemetry

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A `grpc.RpcMethodHandler`: four optional behaviours, of which one is there."""


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
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._streaming(handler.unary_stream, method), **codec)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._collecting(handler.stream_unary, method), **codec)
        return grpc.unary_unary_rpc_method_handler(self._single(handler.unary_unary, method), **codec)

    def _single(self, behaviour: Handler, method: str) -> Callable[[Any, Context], Awaitable[Any]]:
        async def answer(request: Any, context: Context) -> Any:
            with self._telemetry.call(method, context) as call:
                async with translated(method, context, call.trailer):
                    call.received(request)
                    answer = await behaviour(request, context)
                    call.sent(answer)
                    return answer

        return answer

    def _collecting(self, behaviour: Handler, method: str) -> Callable[[AsyncIterator[Any], Context], Awaitable[Any]]:
        async def answer(requests: AsyncIterator[Any], context: Context) -> Any:
            with self._telemetry.call(method, context) as call:
                async with translated(method, context, call.trailer):
                    return await behaviour(_noted(requests, call), context)

        return answer

    def _streaming(self, behaviour: Handler, method: str) -> Callable[[Any, Context], Awaitable[None]]:
        async def answer(request: Any, context: Context) -> None:
            with self._telemetry.call(method, context) as call:
                async with translated(method, context, call.trailer), aclosing(behaviour(request, context)) as answers:
                    call.received(request)
                    async for answer in answers:
                        await context.write(answer)
                        call.sent(answer)

        return answer


async def _noted(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    async for request in requests:
        call.received(request)
        yield request
