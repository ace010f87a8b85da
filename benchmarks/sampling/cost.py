"""What a request and a batch cost in CPU time: the figures that hold on a machine with other work, too."""

import time
from collections.abc import Callable, Iterator
from statistics import median

from harness.processes import Running
from memory_client import Memory

from sampling import inside
from sampling.bench import MEMORY, Bench, Row
from sampling.inside import Speed
from sampling.single import BATCH, IN_FLIGHT, TURNS

REQUEST = 64


def measure(bench: Bench) -> Iterator[Row]:
    """CPU time of a request of 64 images and of a batch of 256 of a stream, over the generator's, by turns."""
    for generator in bench.generators:
        bench.say(f"generator {generator}: requests, then a stream, {TURNS} turns each beside the generator in process")
        with bench.serving(generator) as server, Memory(server.target, name=MEMORY) as memory:
            requests = _turns(bench, generator, REQUEST, server, lambda: memory.sample(n=REQUEST))
            yield from _rows(f"{generator}, a request of {REQUEST}", REQUEST, requests)
            with memory.stream(batch_size=BATCH) as batches:
                batches_of_stream = _turns(bench, generator, BATCH, server, lambda: next(batches))
            yield from _rows(f"{generator}, a batch of {BATCH} of a stream", BATCH, batches_of_stream)


_Turn = tuple[Speed, float, float]
"""The generator in process; CPU-seconds of the server and of the client for what was taken once from it."""


def _turns(bench: Bench, generator: str, rows: int, server: Running, take: Callable[[], object]) -> list[_Turn]:
    expert, seconds = bench.expert(generator), bench.seconds / TURNS
    return [(inside.speed(expert, rows, seconds), *_spent(server, take, seconds)) for _ in range(TURNS)]


def _spent(server: Running, take: Callable[[], object], seconds: float) -> tuple[float, float]:
    """CPU-seconds of the server and of this process for what is taken, each time."""
    for _ in range(IN_FLIGHT):
        take()
    taken, end = 0, time.perf_counter() + seconds
    theirs, own = server.cpu_seconds(), time.process_time()
    while time.perf_counter() < end or not taken:
        take()
        taken += 1
    return (server.cpu_seconds() - theirs) / taken, (time.process_time() - own) / taken


def _rows(what: str, rows: int, turns: list[_Turn]) -> Iterator[Row]:
    alone = rows * median(generator.cpu for generator, _, _ in turns)
    yield Row(f"{what}: in process", 1e3 * alone, "ms")
    for side, spent in (("server", [theirs for _, theirs, _ in turns]), ("client", [own for *_, own in turns])):
        yield Row(f"{what}: {side}", 1e3 * median(spent), "ms", median(spent) / alone, "in process")
