"""What happens around every call of the service: it is watched and guarded, and its exceptions become statuses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from grpc_health.v1 import health

from memory_server.interceptors.errors import translated
from memory_server.interceptors.guard import Guard, Visit
from memory_server.interceptors.telemetry import Call, Telemetry

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A `grpc.RpcMethodHandler`: four optional behaviours, of which one is there."""

_HEALTH = f"/{health.SERVICE_NAME}/"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the methods of one service. Of others, health checks are left alone, and reflection is guarded.

    Arguments:
        service: full name of the service.
        telemetry: watches the calls.
        guard: lets them in.
    """

    def __init__(self, service: str, telemetry: Telemetry, guard: Guard) -> None:
        self._prefix = f"/{service}/"
        self._telemetry = telemetry
        self._guard = guard

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
        codec = _codec(handler)
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
                    caller = self._guard.identified(method, context)
                    with self._guard.visit(method, caller, context, request) as visit:
                        answer = visit.answered(await behaviour(request, context))
                    call.sent(answer)
                    return answer

        return answer

    def _collecting(self, behaviour: Handler, method: str) -> Callable[[AsyncIterator[Any], Context], Awaitable[Any]]:
        async def answer(requests: AsyncIterator[Any], context: Context) -> Any:
            with self._telemetry.call(method, context) as call:
                async with translated(method, context, call.trailer):
                    caller = self._guard.identified(method, context)
                    first = await anext(requests, None)
                    with self._guard.visit(method, caller, context, first) as visit:
                        return visit.answered(await behaviour(_noted(first, requests, call, visit), context))

        return answer

    def _streaming(self, behaviour: Handler, method: str) -> Callable[[Any, Context], Awaitable[None]]:
        async def answer(request: Any, context: Context) -> None:
            with self._telemetry.call(method, context) as call:
                async with translated(method, context, call.trailer):
                    call.received(request)
                    caller = self._guard.identified(method, context)
                    with self._guard.visit(method, caller, context, request) as visit:
                        async with aclosing(behaviour(request, context)) as answers:
                            async for answer in answers:
                                await context.write(visit.answered(answer))
                                call.sent(answer)

        return answer

    def _guarded(self, handler: Handler, method: str) -> Handler:
        """A conversation of another service, for callers with a valid token alone."""

        async def call(requests: AsyncIterator[Any], context: Context) -> None:
            async with translated(method, context):
                self._guard.identified(method, context)
                async for answer in handler.stream_stream(requests, context):
                    await context.write(answer)

        return grpc.stream_stream_rpc_method_handler(call, **_codec(handler))


async def _noted(first: Any, requests: AsyncIterator[Any], call: Call, visit: Visit) -> AsyncIterator[Any]:
    request = first
    while request is not None:
        call.received(request)
        yield request
        request = await anext(requests, None)
        visit.received()


def _codec(handler: Handler) -> dict[str, Any]:
    return {"request_deserializer": handler.request_deserializer, "response_serializer": handler.response_serializer}
