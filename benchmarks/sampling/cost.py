"""What a request and a batch cost in CPU time: the figures that hold on a machine with other work, too."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.processes import Running
from memory_client import Memory

from sampling import inside
from sampling.bench import MEMORY, Bench, Row
from sampling.single import BATCH, IN_FLIGHT

REQUEST = 64
TURNS = 20
"""Short ones: other work, which comes and goes, slows both alike."""


@dataclass(frozen=True)
class _Spent:
    """CPU-seconds of one call: of the generator in process, of the server, and of the client."""

    alone: float
    server: float
    client: float


def measure(bench: Bench) -> Iterator[Row]:
    """CPU time of a request of 64 images and of a batch of 256 of a stream, over the generator's, by turns."""
    for generator in bench.generators:
        bench.say(f"generator {generator}: requests, then a stream, each by turns with the generator in process")
        with (
            bench.serving(generator) as server,
            Memory(server.target, name=MEMORY, shared_memory=False) as memory,  # as from another host
        ):
            spent = _spent(bench, generator, REQUEST, server, lambda: memory.sample(n=REQUEST))
            yield from _rows(f"{generator}, a request of {REQUEST}", spent)
            with memory.stream(batch_size=BATCH) as batches:
                spent = _spent(bench, generator, BATCH, server, lambda: next(batches))
            yield from _rows(f"{generator}, a batch of {BATCH} of a stream", spent)


def _spent(bench: Bench, generator: str, rows: int, server: Running, take: Callable[[], object]) -> _Spent:
    expert, turn = bench.expert(generator), bench.seconds / TURNS
    alone = theirs = own = 0.0
    taken = 0
    for _ in range(TURNS):
        alone += rows * inside.speed(expert, rows, turn).cpu / TURNS
        for _ in range(IN_FLIGHT):
            take()
        theirs, own = theirs - server.cpu_seconds(), own - time.process_time()
        end = time.perf_counter() + turn
        while time.perf_counter() < end or not taken:
            take()
            taken += 1
        theirs, own = theirs + server.cpu_seconds(), own + time.process_time()
    return _Spent(alone, theirs / taken, own / taken)


def _rows(what: str, spent: _Spent) -> Iterator[Row]:
    yield Row(f"{what}: in process", 1e3 * spent.alone, "ms")
    yield Row(f"{what}: server", 1e3 * spent.server, "ms", spent.server / spent.alone, "in process")
    yield Row(f"{what}: client", 1e3 * spent.client, "ms", spent.client / spent.alone, "in process")
