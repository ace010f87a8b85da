"""What readers that stall cost the others and the server, while a task is learned beside them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from statistics import mean
from typing import NamedTuple

import psutil
from harness.processes import Running

from sampling.bench import SMALL, Bench, Goal, Row
from sampling.load import Reader, rates, reading, stream
from sampling.sharing import learning

BATCH = 64
SHARE = 0.1
"""Of the clients that stall."""

STALLED_BYTES = 2e6
SERVER_BYTES, STREAM_BYTES = 500e6, 4e6
"""What a server of a small generator needs by itself, and for each stream beyond that at the most."""

SETTLING_SECONDS = 3.0


class Figures(NamedTuple):
    """Images per second of each reader without and with stalled ones beside it; bytes of a stalled one and of all."""

    without: list[float]
    beside: list[float]
    each: float
    server: int


def measure(bench: Bench) -> Iterator[Row]:
    """A tenth of all streams stall while a task is learned: the others' throughput, the slowest of them, memory."""
    generator = bench.generators[0] if SMALL not in bench.generators else SMALL
    clients = max(bench.clients)
    stalled = max(1, round(SHARE * clients))
    bench.say(f"generator {generator}: {clients - stalled} readers, then {stalled} stalled ones beside them")
    with bench.serving(generator) as server, learning(server, (1, 8, 8), width=4, noise=8):
        found = asyncio.run(_figures(server, clients - stalled, stalled, bench.seconds))
    alone, together, each = sum(found.without), sum(found.beside), found.each
    bound = SERVER_BYTES + clients * STREAM_BYTES
    who = f"{clients - stalled} readers beside {stalled} stalled ones"
    yield Row(who, together, "images/s", together / alone, "without them", Goal(0.9))
    slowest, usual = min(found.beside), mean(found.beside)
    yield Row("the slowest of them", slowest / BATCH, "batches/s", slowest / usual, "their mean", Goal(0.5))
    yield Row("memory of a stalled reader", each / 1e6, "MB", each / STALLED_BYTES, "2 MB", Goal(1, most=True))
    yield Row("memory of the server", found.server / 1e6, "MB", found.server / bound, "its bound", Goal(1, most=True))


async def _figures(server: Running, readers: int, stalled: int, seconds: float) -> Figures:
    process = psutil.Process(server.pid)
    each = await _bytes_of_each(server.target, process, stalled)
    async with reading(stream(server.target, BATCH), readers) as counts:
        first = await rates(counts, seconds)
        async with reading(_stalling(server.target), stalled):
            await asyncio.sleep(SETTLING_SECONDS)
            beside = await rates(counts, seconds)
            resident = process.memory_info().rss
        last = await rates(counts, seconds)
    return Figures([(a + b) / 2 for a, b in zip(first, last, strict=True)], beside, each, resident)


async def _bytes_of_each(target: str, process: psutil.Process, stalled: int) -> float:
    """What one stalled reader adds to a server that has nothing else to send, once it has served a first one."""
    async with reading(_stalling(target), 1):
        await asyncio.sleep(SETTLING_SECONDS)
    before = process.memory_info().rss
    async with reading(_stalling(target), stalled):
        await asyncio.sleep(SETTLING_SECONDS)
        return (process.memory_info().rss - before) / stalled


def _stalling(target: str) -> Reader:
    """A client that opens an endless stream, reads its beginning, and then reads no more."""

    async def read() -> AsyncIterator[int]:
        async for images in stream(target, BATCH)():
            if images:
                yield images
                await asyncio.Event().wait()

    return read
