"""What a memory costs to sample, and to commit to, as the number of its tasks grows."""

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.made import Made
from harness.processes import Running
from memory_client import Memory

from dgm_core.manifest import Learned
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskRecord
from sampling.bench import MEMORY, SMALL, Bench, Row
from sampling.load import percentile
from sampling.single import streamed

BATCH = 256
ROWS = 64
FEWEST_REQUESTS = 5
ROOM = 0.1
"""Share of the experts that the cache has room for, in the rows where it has not enough."""


def measure(bench: Bench) -> Iterator[Row]:
    """Ever more tasks: streams of all, requests for one at random, the same with a cache too small, and a commit."""
    generator = bench.generators[0] if SMALL not in bench.generators else SMALL
    first: dict[str, float] = {}
    for tasks in bench.tasks:
        for row in _points(bench, generator, tasks):
            ratio = row.value / first[row.what] if row.what in first else None
            first.setdefault(row.what, row.value)
            over = "" if ratio is None else f"{bench.tasks[0]} tasks"
            yield replace(row, what=f"{tasks} tasks: {row.what}", ratio=ratio, over=over)


def _points(bench: Bench, generator: str, tasks: int) -> Iterator[Row]:
    made, path = bench.memory(generator, tasks)
    with bench.serving(generator, tasks) as server, Memory(server.target, name=MEMORY) as memory:
        bench.say(f"{tasks} tasks, room for every expert")
        started = time.perf_counter()
        memory.sample(n=1, tasks="t0")
        yield Row("first image after a start", 1e3 * (time.perf_counter() - started), "ms")
        yield _whole(memory, server, bench.seconds)
        yield from _requests(memory, tasks, bench.seconds, "")
        yield Row("server's memory", server.resident_bytes() / 2**20, "MiB")
    room = max(1, int(ROOM * tasks))
    nbytes = bench.expert(generator).nbytes  # all are of one size
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
