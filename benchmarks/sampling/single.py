"""One client beside the compiled generator in its own process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from harness import bare_stream
from harness.processes import Running
from memory_client import Memory
from memory_client.sampling import Batch

from sampling import inside
from sampling.bench import LARGE, MEMORY, SPEC, Bench, Goal, Row
from sampling.inside import Speed

BATCH = 256
MIXED = 10
TURNS = 3
"""The two take turns, so that other work on the machine hurts both alike."""

IN_FLIGHT = 10
"""Batches to leave out at the start of a turn: they may have been made while the other one was measured."""


def measure(bench: Bench) -> Iterator[Row]:
    """One client streams batches of 256, beside the same compiled generator in its own process, by turns."""
    bare = bare_stream.rates(bench.seconds)[1] / SPEC.nbytes
    yield Row("a bare gRPC stream", bare, "images/s")
    for generator in bench.generators:
        bench.say(f"generator {generator}: in process, then from the server, {TURNS} times")
        expert = bench.expert(generator)
        alone, served = [], []
        with _batches(bench, generator, 1) as (batches, server):
            for _ in range(TURNS):
                alone.append(inside.speed(expert, BATCH, bench.seconds / TURNS))
                served.append(streamed(batches, server, bench.seconds / TURNS))
        own = _median(alone)
        yield from _rows(bench, generator, own, _median(served), bare)
        bench.say(f"generator {generator}: {MIXED} tasks in each batch")
        with _batches(bench, generator, MIXED) as (batches, server):
            mixed = streamed(batches, server, bench.seconds)
        what = f"{generator}, served, {MIXED} tasks in each batch"
        yield Row(what, mixed.rate, "images/s", mixed.rate / own.rate, "one task, in process", detail=mixed.detail)


@contextmanager
def _batches(bench: Bench, generator: str, tasks: int) -> Iterator[tuple[Iterator[Batch], Running]]:
    with (
        bench.serving(generator, tasks) as server,
        Memory(server.target, name=MEMORY) as memory,
        memory.stream(batch_size=BATCH) as batches,
    ):
        yield batches, server


def streamed(batches: Iterator[Batch], server: Running, seconds: float) -> Speed:
    """A stream as one client of this process reads it; the CPU time is that of server and client."""
    for _ in range(IN_FLIGHT):
        next(batches)
    images, passed, started = 0, 0.0, time.perf_counter()
    cpu = time.process_time() + server.cpu_seconds()
    while passed < seconds or not images:
        images += len(next(batches)[0])
        passed = time.perf_counter() - started
    return Speed(images / passed, (time.process_time() + server.cpu_seconds() - cpu) / images)


def _rows(bench: Bench, generator: str, alone: Speed, served: Speed, bare: float) -> Iterator[Row]:
    on_cpu, graded = bench.device == "cpu", generator == LARGE
    most, over = (alone.rate, "in process") if on_cpu else (min(alone.rate, bare), "in process, or bare gRPC")
    least = Goal(0.9 if on_cpu else 0.8)
    yield Row(f"{generator}, in process", alone.rate, "images/s", detail=alone.detail)
    ratio = served.rate / most
    yield Row(f"{generator}, served", served.rate, "images/s", ratio, over, least if graded else None, served.detail)
    cpu, bound = 1e6 * served.cpu, Goal(1.2, most=True) if graded and on_cpu else None
    yield Row(f"{generator}, served: CPU of both ends", cpu, "µs/image", served.cpu / alone.cpu, "in process", bound)


def _median(turns: list[Speed]) -> Speed:
    return Speed(median(turn.rate for turn in turns), median(turn.cpu for turn in turns))
