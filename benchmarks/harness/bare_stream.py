"""The yardstick of the wire: a gRPC server that does nothing but move bytes, in messages of the size that ours uses."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

MESSAGE = 512 * 1024
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
    """Serves until it is killed; prints its port."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Bytes(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


def rates(seconds: float) -> tuple[float, float]:
    """Bytes per second of a bare gRPC stream into and out of a server process."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        try:
            with grpc.insecure_channel(
                f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]
            ) as channel:
                return _rates(channel, max(1, int(200 * seconds)))
        finally:
            process.kill()


def _rates(channel: grpc.Channel, count: int) -> tuple[float, float]:
    send: Any = channel.unary_stream(SEND)
    receive: Any = channel.stream_unary(RECEIVE)
    started = time.perf_counter()
    receive(iter([bytes(MESSAGE)] * count))
    into = count * MESSAGE / (time.perf_counter() - started)
    started = time.perf_counter()
    moved = sum(len(message) for message in send(f"{count} {MESSAGE}".encode()))
    return into, moved / (time.perf_counter() - started)


if __name__ == "__main__":
    asyncio.run(main())
