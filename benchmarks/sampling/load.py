"""Load from one asyncio process: any number of clients that read on and on, or requests that come at random."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import numpy as np
from harness.processes import Running
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub

from sampling.bench import MEMORY
from sampling.inside import Speed

CHANNEL = (
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.use_local_subchannel_pool", 1),  # a connection for each client, as if each were a process of its own
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_535),
)
MOST_SECONDS = 120.0
"""After which a point is given up."""

CONNECTIONS = 16
FEWEST_REQUESTS = 300

Metadata = Sequence[tuple[str, str]]
Reader = Callable[[], AsyncIterator[int]]
"""Starts one client; yields how many images came, whenever some did, without end."""


def stream(target: str, batch_size: int, metadata: Metadata = ()) -> Reader:
    """A client that reads an endless `Sample` stream on a connection of its own."""

    async def read() -> AsyncIterator[int]:
        request = pb.SampleRequest(memory=MEMORY, batch_size=batch_size)
        async with grpc.aio.insecure_channel(target, options=CHANNEL) as channel:
            async for answer in MemoryServiceStub(channel).Sample(request, metadata=metadata):
                yield len(answer.chunk.y) // 4

    return read


def requests(target: str, rows: int) -> Reader:
    """A client that asks for so many images, again as soon as it has them."""

    async def read() -> AsyncIterator[int]:
        async with grpc.aio.insecure_channel(target, options=CHANNEL) as channel:
            stub = MemoryServiceStub(channel)
            while True:
                yield await _request(stub, rows)

    return read


def throughput(server: Running, reader: Reader, clients: int, seconds: float) -> tuple[Speed, float]:
    """What all clients get together, and the CPU-seconds per image of the server alone.

    Begins once each client has something and ends when each has got more, `seconds` later at the earliest: a server
    that serves many clients in turn gives nothing to any for a while, then something to all.

    Raises:
        RuntimeError: a client got nothing for two minutes.
        grpc.RpcError: the server refused a client.
    """
    return asyncio.run(_throughput(server, reader, clients, seconds))


def latencies(target: str, clients: int, rows: int, rate: float, seconds: float) -> Sequence[float]:
    """Sorted seconds from when a request was due until its last image was there.

    Requests are due at random times, whatever became of earlier ones (open loop), spread over clients in turn.

    Arguments:
        rate: requests per second.
        seconds: for which they come; longer where that would be few requests.
    """
    return asyncio.run(_latencies(target, clients, rows, rate, max(seconds, FEWEST_REQUESTS / rate)))


def percentile(values: Sequence[float], share: float) -> float:
    """Of measured values, linearly between the two nearest."""
    return float(np.quantile(values, share))


@asynccontextmanager
async def reading(reader: Reader, clients: int) -> AsyncIterator[list[int]]:
    """Clients that read on and on; the block begins once each has something, and gets how many images each has so far.

    Raises:
        TimeoutError: a client got nothing for two minutes.
    """
    counts = [0] * clients

    async def count(index: int) -> None:
        async for images in reader():
            counts[index] += images

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(count(index)) for index in range(clients)]
        await _until(lambda: min(counts) > 0)
        yield counts
        for each in tasks:
            each.cancel()


async def rates(counts: list[int], seconds: float) -> list[float]:
    """Images per second of each client, over `seconds` at least, and until each has got more."""
    first, started = list(counts), time.perf_counter()
    await asyncio.sleep(seconds)
    await _until(lambda: all(now > then for now, then in zip(counts, first, strict=True)))
    passed = time.perf_counter() - started
    return [(now - then) / passed for now, then in zip(counts, first, strict=True)]


async def _throughput(server: Running, reader: Reader, clients: int, seconds: float) -> tuple[Speed, float]:
    async with reading(reader, clients) as counts:
        images, own, theirs = sum(counts), time.process_time(), server.cpu_seconds()
        rate = sum(await rates(counts, seconds))
        theirs, own = server.cpu_seconds() - theirs, time.process_time() - own
        images = sum(counts) - images
    return Speed(rate, (own + theirs) / images), theirs / images


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(MOST_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


async def _latencies(target: str, clients: int, rows: int, rate: float, seconds: float) -> Sequence[float]:
    source = random.Random(0)
    async with AsyncExitStack() as stack:
        channels = [grpc.aio.insecure_channel(target, options=CHANNEL) for _ in range(clients)]
        stubs = [MemoryServiceStub(await stack.enter_async_context(channel)) for channel in channels]
        await asyncio.gather(*(_request(stub, rows) for stub in stubs))  # connected, and warm

        async def ask(stub: MemoryServiceStub, due: float) -> float:
            await _request(stub, rows)
            return time.perf_counter() - due

        due, number, asked = time.perf_counter(), 0, []
        end = due + seconds
        async with asyncio.TaskGroup() as group, asyncio.timeout(seconds + MOST_SECONDS):
            while (due := due + source.expovariate(rate)) < end:
                await asyncio.sleep(due - time.perf_counter())
                asked.append(group.create_task(ask(stubs[number % clients], due)))
                number += 1
        return sorted(each.result() for each in asked)


async def _request(stub: MemoryServiceStub, rows: int) -> int:
    request = pb.SampleRequest(memory=MEMORY, n=rows, batch_size=rows)
    return sum([len(answer.chunk.y) // 4 async for answer in stub.Sample(request)])
