"""A plain grpc.aio handler without an engine: our wire, and a loop that calls the generator.

Tuned: the generator has a thread of its own, so that batches are sent while the next one is computed; flow control is
that of the memory server.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from expert import READY, Images, arguments, batches
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceServicer, add_MemoryServiceServicer_to_server

OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))


class Plain(MemoryServiceServicer):
    """Streams batches to any number of clients, computed by one thread in the order in which they are wanted.

    Arguments:
        images: the generator.
        rows: of a batch.
    """

    def __init__(self, images: Images, rows: int) -> None:
        self._images, self._rows = images, rows
        self._thread = ThreadPoolExecutor(1)

    async def Sample(self, _request: pb.SampleRequest, _context: Any) -> AsyncIterator[pb.SampleResponse]:  # noqa: N802
        """Until the client leaves."""
        async for x in batches(self._images, self._rows, self._thread):
            yield pb.SampleResponse(chunk=pb.SampleChunk(x=x, y=bytes(4 * self._rows)))


async def main() -> None:
    """Serves until it is terminated."""
    folder, device, rows = arguments()
    server = grpc.aio.server(options=OPTIONS)
    add_MemoryServiceServicer_to_server(Plain(Images(folder, device), rows), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"{READY} 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
