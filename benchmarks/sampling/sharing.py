"""What learning and sampling leave each other of a core, or of a device, that both want."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import psutil
from harness.processes import Running
from memory_client import Memory

from sampling.bench import MEMORY, SPEC, Bench, Row
from sampling.learner import pinned
from sampling.load import percentile
from sampling.single import IN_FLIGHT

BATCH = 256
ROWS = 64
WORKER = "memory_server.learning.worker"
_ENDLESS = 10_000_000

Reader = Callable[[Memory], Generator[tuple[float, int]]]
"""Takes samples for ever: seconds that each time took, and images that came."""


@dataclass(frozen=True)
class Got:
    """What one reader, and learning beside it, got in the same seconds.

    Arguments:
        rate: images a second.
        waits: seconds, one for each time that the reader wanted some.
        learning: processor time of what learned beside it, over the time that passed.
    """

    rate: float
    waits: list[float]
    learning: float


def measure(bench: Bench) -> Iterator[Row]:
    """A task is learned on the core that a stream, or requests, want too: each over what it has alone."""
    servers, own = (bench.cores[:1], bench.cores[1:]) if len(bench.cores) > 1 else ((), ())
    for generator in bench.generators:
        bench.say(f"generator {generator}: samples alone, learning alone, then both")
        with bench.serving(generator, cores=servers) as server, pinned(own):
            stream, requests = (_got(server, reader, bench.seconds) for reader in (_stream, _requests))
            with learning(server, SPEC.shape):
                alone = _got(server, _nothing, bench.seconds).learning
                streamed, answered = (_got(server, reader, bench.seconds) for reader in (_stream, _requests))
        yield from _pair(f"{generator}, a stream", "images/s", stream.rate, streamed.rate)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            waits = (1e3 * percentile(each.waits, share) for each in (requests, answered))
            yield from _pair(f"{generator}, requests of {ROWS}, {name}", "ms", *waits)
        yield Row(f"{generator}, learning alone", alone, "of the time")
        for beside, got in (("a stream", streamed), ("requests", answered)):
            share = got.learning / alone
            yield Row(f"{generator}, learning beside {beside}", got.learning, "of the time", share, "alone")


@contextmanager
def learning(server: Running, shape: tuple[int, ...], **options: int) -> Iterator[None]:
    """A task of another memory, of images of that shape, is learned inside the block, from its first step on."""
    x = np.random.default_rng(0).integers(0, 256, (200, *shape), dtype=np.uint8)
    with Memory(server.target, name="beside", options=options) as memory:
        handle = memory.learn_task((x, np.arange(200) % 2), task="t0", steps=_ENDLESS, wait=False)
        next(task for task in handle.watch() if task.progress is not None)
        yield
        handle.cancel()
        memory.delete()


def _stream(memory: Memory) -> Generator[tuple[float, int]]:
    """Batches of a stream, one after another."""
    with memory.stream(batch_size=BATCH) as batches:
        while True:
            started = time.perf_counter()
            images = len(next(batches)[1])
            yield time.perf_counter() - started, images


def _requests(memory: Memory) -> Generator[tuple[float, int]]:
    """Requests of a few images, each followed by something else that takes as long."""
    while True:
        started = time.perf_counter()
        images = len(memory.sample(n=ROWS)[1])
        waited = time.perf_counter() - started
        yield waited, images
        time.sleep(waited)


def _nothing(_: Memory) -> Generator[tuple[float, int]]:
    """Nothing, now and then."""
    while True:
        time.sleep(0.01)
        yield 0.01, 0


def _got(server: Running, reader: Reader, seconds: float) -> Got:
    """Of one reader, and of what learns meanwhile."""
    taken, enough = list[tuple[float, float, int]](), threading.Event()

    def read() -> None:
        with Memory(server.target, name=MEMORY) as memory, closing(reader(memory)) as takes:
            for waited, images in takes:
                taken.append((time.perf_counter(), waited, images))
                if enough.is_set():
                    return

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        while len(taken) < IN_FLIGHT and not reading.done():
            time.sleep(0.01)
        started, spent = time.perf_counter(), _cpu_of_learning(server)
        time.sleep(seconds)
        spent = _cpu_of_learning(server) - spent
        passed, among = time.perf_counter() - started, [each for each in list(taken) if each[0] >= started]
        enough.set()
        reading.result()
    return Got(sum(images for _, _, images in among) / passed, [waited for _, waited, _ in among], spent / passed)


def _cpu_of_learning(server: Running) -> float:
    """Seconds of the process that learns, if there is one."""
    workers = psutil.Process(server.pid).children()
    return sum(float(sum(each.cpu_times()[:2])) for each in workers if WORKER in each.cmdline())


def _pair(what: str, unit: str, alone: float, beside: float) -> Iterator[Row]:
    yield Row(f"{what}, alone", alone, unit)
    yield Row(f"{what}, beside learning", beside, unit, beside / alone, "alone")
