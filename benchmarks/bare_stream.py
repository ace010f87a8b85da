"""The yardstick: a gRPC server that does nothing but move bytes, in messages of the size that ours uses.

Started by wire.py as a process of its own; prints its port.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

SEND, RECEIVE = "/bare.Bytes/Send", "/bare.Bytes/Receive"


class Bytes(grpc.GenericRpcHandler):
    """Send streams `count` messages of one size to the client; Receive counts what the client streams."""

    def service(self, details: Any) -> Any:
        """The handler of one call."""
        if details.method == SEND:
            return grpc.unary_stream_rpc_method_handler(self._send)
        return grpc.stream_unary_rpc_method_handler(self._receive)

    async def _send(self, request: bytes, _: Any) -> AsyncIterator[bytes]:
        count, size = map(int, request.split())
        message = bytes(size)
        for _ in range(count):
            yield message

    async def _receive(self, messages: AsyncIterator[bytes], _: Any) -> bytes:
        return str(sum([len(message) async for message in messages])).encode()


async def main() -> None:
    """Serves until it is killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Bytes(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
