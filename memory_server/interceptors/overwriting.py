"""Calls that bring raw data have freed memory overwritten while they are open, and for a while after."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from memory_server.overwriting import Overwriting, Received

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A `grpc.RpcMethodHandler`: four optional behaviours, of which one is there."""


class OverwritingInterceptor(grpc.aio.ServerInterceptor):
    """The outermost one: a call that is refused may have brought data all the same.

    Arguments:
        service: full name of the service.
        overwriting: what is told of its calls.
    """

    def __init__(self, service: str, overwriting: Overwriting) -> None:
        self._wrapped = {f"/{service}/LearnTask": self._taught, f"/{service}/Classify": self._classified}
        self._overwriting = overwriting

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]], details: grpc.HandlerCallDetails
    ) -> Handler:
        """The handler of a call, wrapped if the call brings data."""
        wrapped = self._wrapped.get(details.method)
        if wrapped is None:
            return await continuation(details)
        self._overwriting.announced()  # its first bytes are here already
        return wrapped(await continuation(details))

    def _taught(self, handler: Handler) -> Handler:
        async def answer(contents: AsyncIterator[bytes], context: Context) -> Any:
            with self._overwriting.call(context.peer()) as received:
                answer = await handler.stream_unary(_watched(contents, received), context)
                received.whole()
                return answer

        return grpc.stream_unary_rpc_method_handler(answer, response_serializer=handler.response_serializer)

    def _classified(self, handler: Handler) -> Handler:
        async def answer(content: bytes, context: Context) -> Any:
            with self._overwriting.call(context.peer()) as received:
                received.only(content)
                return await handler.unary_unary(content, context)

        return grpc.unary_unary_rpc_method_handler(answer, response_serializer=handler.response_serializer)


async def _watched(contents: AsyncIterator[bytes], received: Received) -> AsyncIterator[bytes]:
    async for content in contents:
        received.message(len(content))
        yield content
        del content  # else kept while the next one is on its way
