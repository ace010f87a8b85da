"""An hour of learning, sampling, forgetting and reconnecting: memory and open files of the server must stay flat.

    .venv/bin/python benchmarks/soak.py --minutes 60

Memory and files are read once a second. After a warm-up of a quarter of the time, first and last third of the rest are
compared: medians of memory and the fewest open files may differ by 2 %. Status 1 if they differ by more.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import torch
from harness import lines
from harness.processes import Running, memory_server
from memory_client import Memory, UnknownRevision

TOLERANCE = 0.02
WARM_UP = 0.25
MOST_TASKS = 6
READERS = 3
ROWS = 100
STEPS = 20
_CLASSES = 2


@dataclass
class Readings:
    """What the server held, second by second."""

    resident: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)

    def read(self, process: psutil.Process) -> None:
        """Takes one more; workers are processes of their own and not in it."""
        self.resident.append(process.memory_info().rss / 2**20)
        self.files.append(process.num_fds())


@dataclass(frozen=True)
class Drift:
    """The first and the last third after the warm-up, each as one number."""

    first: float
    last: float

    @classmethod
    def of(cls, values: list[float], summary: Callable[[list[float]], float]) -> "Drift":
        """Of readings in their order."""
        steady = values[int(WARM_UP * len(values)) :]
        third = max(1, len(steady) // 3)
        return cls(summary(steady[:third]), summary(steady[-third:]))

    @property
    def flat(self) -> bool:
        """Whether they differ by no more than the tolerance."""
        return abs(self.last - self.first) <= TOLERANCE * self.first

    def __str__(self) -> str:
        return f"{self.first:.1f} -> {self.last:.1f} ({self.last / self.first - 1:+.2%})"


class Soak:
    """Learners and readers of one server, each in a thread of its own, until they are told to stop."""

    def __init__(self, server: Running) -> None:
        self.done: Counter[str] = Counter()
        self._server = server
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []

    def run(self, seconds: float) -> Readings:
        """Works that long. Raises what went wrong for a learner or a reader."""
        self._learned(self._connect(), 0)
        workers = [self._started(self._learn), *(self._started(self._read) for _ in range(READERS))]
        readings, process, end = Readings(), psutil.Process(self._server.pid), time.monotonic() + seconds
        while time.monotonic() < end and not self._failures:
            readings.read(process)
            time.sleep(1)
        self._stopping.set()
        for worker in workers:
            worker.join()
        if self._failures:
            raise self._failures[0]
        return readings

    def _connect(self) -> Memory:
        return Memory(self._server.target, "soak", options={"width": 4, "noise": 8})

    def _started(self, work: Callable[[], None]) -> threading.Thread:
        def until_it_ends() -> None:
            try:
                work()
            except BaseException as error:
                self._failures.append(error)

        thread = threading.Thread(target=until_it_ends)
        thread.start()
        return thread

    def _learn(self) -> None:
        """Learns one task after another and forgets the oldest, so that the memory never holds more than a few."""
        number = 0
        while not self._stopping.is_set():
            number += 1
            with self._connect() as memory:
                self._learned(memory, number)
                if number >= MOST_TASKS:
                    memory.forget(f"t{number - MOST_TASKS + 1}")
                    self.done["forgotten"] += 1

    def _learned(self, memory: Memory, number: int) -> None:
        source = np.random.default_rng(number)
        x = source.integers(0, 256, (ROWS, 1, 8, 8), dtype=np.uint8)
        y = np.arange(ROWS) % _CLASSES + _CLASSES * (number % MOST_TASKS)
        memory.learn_task((x, y), task=f"t{number}", steps=STEPS, erasable=True, progress=False)
        self.done["learned"] += 1

    def _read(self) -> None:
        """Streams with and without a seed and single samples, on a new connection each time."""
        source = random.Random()
        while not self._stopping.is_set():
            # What has a seed is pinned to a revision, and that of a task that is forgotten meanwhile goes with it.
            with self._connect() as memory, suppress(UnknownRevision):
                memory.sample(n=source.randrange(1, 2000), tasks="t0", seed=source.choice((None, 1)))
                with memory.stream(batch_size=source.choice((16, 64, 256)), tasks="t0") as batches:
                    for _ in range(source.randrange(1, 200)):
                        next(batches)
                        self.done["batches"] += 1
            self.done["connections"] += 1


def main() -> None:
    """Soaks one server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long, warm-up included")
    parser.add_argument("--out", type=Path, default=Path("memory-data/soak.jsonl"), help="gets a line of JSON")
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, memory_server(Path(folder), learners=1) as server:
        sys.exit(0 if soaked(server, wish.minutes, wish.out) else 1)


def soaked(server: Running, minutes: float, out: Path) -> bool:
    """Whether memory and files of the server stayed flat; says so, and writes it down."""
    soak = Soak(server)
    readings = soak.run(60 * minutes)
    # Of files the fewest, which a leak raises: how many connections are open at one time is chance.
    resident, files = Drift.of(readings.resident, median), Drift.of(readings.files, min)
    flat = resident.flat and files.flat
    print(f"done: {', '.join(f'{count} {what}' for what, count in soak.done.items())}")
    print(f"resident MiB: {resident}; open files: {files}; {'flat' if flat else 'NOT FLAT'}")
    figures = {"resident_mib": [resident.first, resident.last], "open_files": [files.first, files.last]}
    about = {"run": "soak", "what": "soak", "key": [minutes], "minutes": minutes, "flat": flat}
    lines.append(out, about | figures | {"done": dict(soak.done)} | lines.origin(torch.device("cpu")))
    return flat


if __name__ == "__main__":
    main()
