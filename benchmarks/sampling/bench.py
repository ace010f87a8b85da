"""What all measurements share: the settings of a run, its memories, its servers, and the rows that they give."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from harness.made import Made, masked, styled
from harness.processes import Running, memory_server

from dgm_core.experts import FrozenExpert
from dgm_core.manifest import DataSpec
from memory_server.settings import Settings

MEMORY = "bench"
SPEC = DataSpec((3, 32, 32), "uint8")
GENERATORS = {"24-12-6": 6, "256-128-64": 64}
"""Name, which is the widths of a DCGAN for images of 32 × 32 -> f of those widths."""
SMALL, LARGE = GENERATORS
DGMW = "dgmw"
"""A generator of masked weights, as wide as a task of that memory leaves it."""

GRACE_SECONDS = 1


@dataclass(frozen=True)
class Goal:
    """A bound on a ratio: from below, or from above if `most`."""

    bound: float
    most: bool = False

    def holds(self, ratio: float) -> bool:
        """Whether it is reached."""
        return ratio <= self.bound if self.most else ratio >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.most else '≥'} {self.bound:g}"


@dataclass(frozen=True)
class Row:
    """One figure.

    Arguments:
        what: is measured.
        value: the figure.
        unit: of the figure.
        ratio: of the figure and another one of the same run.
        over: what the ratio is over.
        goal: for the ratio.
        detail: more figures of the same point, by name.
    """

    what: str
    value: float
    unit: str
    ratio: float | None = None
    over: str = ""
    goal: Goal | None = None
    detail: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """One run.

    Arguments:
        folder: for data directories; goes with the run.
        seconds: how long each point is measured.
        device: of the servers and of the in-process generator.
        generators: which of `GENERATORS`.
        clients: how many at once, one point each.
        tasks: of a memory that grows, one point each.
        peers: the Python of the peers' environment.
        say: tells what is being done.
    """

    folder: Path
    seconds: float = 5.0
    device: str = "cpu"
    generators: tuple[str, ...] = tuple(GENERATORS)
    clients: tuple[int, ...] = (1, 10, 100, 500)
    tasks: tuple[int, ...] = (10, 100, 1000)
    peers: Path = Path(".venv-peers/bin/python")
    say: Callable[[str], None] = lambda text: print(f"  {text}", file=sys.stderr, flush=True)
    _made: dict[tuple[str, int], tuple[Made, Path]] = field(default_factory=dict)

    def memory(self, generator: str, tasks: int = 1) -> tuple[Made, Path]:
        """A memory of tasks t0, t1, … of one class each, and a data directory that holds it under the name `MEMORY`."""
        key = (generator, tasks)
        if key not in self._made:
            self.say(f"making a memory of {tasks} tasks, generator {generator}")
            path = self.folder / f"{generator}-{tasks}"
            made = masked(DGMW, SPEC, tasks, 1) if generator == DGMW else styled(SPEC, GENERATORS[generator], tasks)
            made.store(path, MEMORY)
            self._made[key] = made, path
        return self._made[key]

    def expert(self, generator: str) -> FrozenExpert:
        """The generator of the first task, in this process, as the server compiles it."""
        memory = self.memory(generator)[0].loaded()
        return memory.materialised(0, memory.manifest.tasks[0].classes).to(torch.device(self.device))

    def serving(
        self, generator: str, tasks: int = 1, cores: Sequence[int] = (), **settings: object
    ) -> AbstractContextManager[Running]:
        """A server of such a memory."""
        chosen: dict[str, Any] = {"device": self.device, "grace_seconds": GRACE_SECONDS, **settings}
        return memory_server(self.memory(generator, tasks)[1], cores, **chosen)

    @cached_property
    def cores(self) -> tuple[int, ...]:
        """That this run may use."""
        return tuple(sorted(os.sched_getaffinity(0)))


def offers(setting: str) -> bool:
    """Whether the server has a setting of that name."""
    return setting in Settings.model_fields


Measurement = Callable[[Bench], Iterator[Row]]
"""Gives its rows as they are measured; the first line of its docstring says what it does."""
