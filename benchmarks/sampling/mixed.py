"""Small batches of many tasks: one request for all of them beside one request for each."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

from memory_client import Memory

from sampling.bench import DGMW, MEMORY, Bench, Goal, Row

TASKS = 10
SIZES = (10, 20, 40, 80)


def measure(bench: Bench) -> Iterator[Row]:
    """Images of ten tasks in one call, beside ten calls for one task each, for small numbers of images."""
    for generator in (*bench.generators, DGMW):
        bench.say(f"generator {generator}: {', '.join(map(str, SIZES))} images of {TASKS} tasks")
        with bench.serving(generator, TASKS) as server, Memory(server.target, name=MEMORY) as memory:
            for n in SIZES:
                mixed, separate = by_turns(partial(together, memory, n), partial(apart, memory, n), bench.seconds)
                what = f"{generator}, {n} images in one call"
                detail = {"ten_calls_ms": 1e3 * separate}
                yield Row(what, 1e3 * mixed, "ms", separate / mixed, "ten calls (speed-up)", Goal(2.0), detail)


def together(memory: Memory, n: int) -> None:
    """One call for all tasks."""
    memory.sample(n=n)


def apart(memory: Memory, n: int) -> None:
    """A call for each task, one after another."""
    for index in range(TASKS):
        memory.sample(tasks=f"t{index}", n=n // TASKS)


def by_turns(one: Callable[[], None], other: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Median seconds of each; they take turns for `seconds`, after one turn that does not count."""
    times: list[tuple[float, float]] = []
    _timed(one), _timed(other)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not times:
        times.append((_timed(one), _timed(other)))
    first, second = zip(*times, strict=True)
    return median(first), median(second)


def _timed(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
