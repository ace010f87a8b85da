"""What a memory costs to sample, and to commit to, as the number of its tasks grows."""

import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness.made import Made
from harness.processes import Running
from memory_client import Memory
from memory_client.sampling import Batch

from dgm_core.manifest import Learned
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskRecord
from sampling.bench import MEMORY, SMALL, Bench, Row
from sampling.load import percentile
from sampling.single import streamed

BATCH = 256
ROWS = 64
FEWEST_REQUESTS = 5
ROOM, NEARLY = 0.1, 0.95
"""Shares of the experts that the cache has room for, in the rows where it has not enough."""


def measure(bench: Bench) -> Iterator[Row]:
    """Ever more tasks: streams of all, and one beside them, requests for one, caches that are too small, a commit."""
    generator = bench.generators[0] if SMALL not in bench.generators else SMALL
    first: dict[str, float] = {}
    for tasks in bench.tasks:
        for row in _points(bench, generator, tasks):
            named = replace(row, what=f"{tasks} tasks: {row.what}")
            if row.ratio is None and row.what in first:
                named = replace(named, ratio=row.value / first[row.what], over=f"{bench.tasks[0]} tasks")
            first.setdefault(row.what, row.value)
            yield named


def _points(bench: Bench, generator: str, tasks: int) -> Iterator[Row]:
    made, path = bench.memory(generator, tasks)
    with bench.serving(generator, tasks) as server, Memory(server.target, name=MEMORY) as memory:
        bench.say(f"{tasks} tasks, room for every expert")
        started = time.perf_counter()
        memory.sample(n=1, tasks="t0")
        yield Row("first image after a start", 1e3 * (time.perf_counter() - started), "ms")
        yield _whole(memory, server, bench.seconds)
        yield from _requests(memory, tasks, bench.seconds, "")
        yield _neighbour(memory, server, bench.seconds)
        whole = _seeded(memory, server, tasks, bench.seconds)
        yield Row("server's memory", server.resident_bytes() / 2**20, "MiB")
    room = max(1, int(ROOM * tasks))
    nbytes = bench.expert(generator).nbytes  # all are of one size
    nearly = max(1, int(NEARLY * tasks))
    with (
        bench.serving(generator, tasks, expert_cache_bytes=nearly * nbytes) as server,
        Memory(server.target, name=MEMORY) as memory,
    ):
        bench.say(f"{tasks} tasks, room for {nearly} experts")
        cpu = _seeded(memory, server, tasks, bench.seconds)
        what = "stream of all with a seed, room for nineteen of twenty experts: CPU of both ends"
        yield Row(what, 1e6 * cpu, "µs/image", cpu / whole, "room for all")
    with (
        bench.serving(generator, tasks, expert_cache_bytes=room * nbytes) as server,
        Memory(server.target, name=MEMORY) as memory,
    ):
        bench.say(f"{tasks} tasks, room for {room} experts")
        yield from _requests(memory, tasks, bench.seconds, ", room for a tenth")
    bench.say(f"{tasks} tasks, and one more")
    detail = {"manifest_kib": len(made.manifest.to_json()) / 1024}
    yield Row("the commit of one more", 1e3 * committed(made, path), "ms", detail=detail)


def _whole(memory: Memory, server: Running, seconds: float) -> Row:
    """A stream over all tasks."""
    with memory.stream(batch_size=BATCH) as batches:
        speed = streamed(batches, server, seconds)
    return Row(f"stream of all, batches of {BATCH}", speed.rate, "images/s", detail=speed.detail)


def _neighbour(memory: Memory, server: Running, seconds: float) -> Row:
    """A stream of one task, beside one of all tasks that is read as fast as it comes."""
    with memory.stream(batch_size=BATCH, tasks="t0") as batches:
        alone = streamed(batches, server, seconds)
        with _reading(memory):
            beside = streamed(batches, server, seconds)
    ratio = beside.rate / alone.rate
    return Row("stream of one task beside one of all", beside.rate, "images/s", ratio, "alone", detail=beside.detail)


@contextmanager
def _reading(memory: Memory) -> Iterator[None]:
    """Somebody reads a stream of all tasks inside the block."""
    over = threading.Event()

    def read(batches: Iterator[Batch]) -> None:
        while not over.is_set():
            next(batches)

    with memory.stream(batch_size=BATCH) as batches, ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read, batches)
        try:
            yield
        finally:
            over.set()
            reading.result()


def _seeded(memory: Memory, server: Running, tasks: int, seconds: float) -> float:
    """CPU-seconds an image of a stream of all tasks with a seed, once each expert was there."""
    memory.sample(n=2 * tasks, seed=1)
    with memory.stream(batch_size=BATCH, seed=0) as batches:
        return streamed(batches, server, seconds).cpu


def _requests(memory: Memory, tasks: int, seconds: float, note: str) -> Iterator[Row]:
    """Requests for one task at random, one after another."""
    source, times = random.Random(0), list[float]()
    memory.sample(n=ROWS, tasks="t0")  # the first load of all is a row of its own
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < FEWEST_REQUESTS:
        started = time.perf_counter()
        memory.sample(n=ROWS, tasks=f"t{source.randrange(tasks)}")
        times.append(time.perf_counter() - started)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        yield Row(f"{ROWS} images of one task{note}: {name}", 1e3 * percentile(times, share), "ms")


def committed(made: Made, path: Path) -> float:
    """Seconds in which a copy of a data directory takes in the newest task once more, under another name."""
    entry = made.manifest.tasks[-1]
    again = Learned(replace(entry, task="again"), made.manifest.shared, {}, made.manifest.revision)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy = shutil.copytree(path, Path(folder) / "copy")
        with DataDir(copy) as store:
            store.admit(TaskRecord(MEMORY, "again", entry.classes, 1, ""))
            started = time.perf_counter()
            store.commit(MEMORY, "again", again)
            return time.perf_counter() - started
