"""Tasks of perceptually distant domains on frozen bases, beside a base that is trained whole and beside dgmw.

    GENERATIVE_MEMORY_DATA=DIR python benchmarks/domains.py [--steps 400] [--tasks digits animals vehicles]

Digits of MNIST on the shipped grey base; animals, then vehicles of CIFAR-10 on the shipped colour base, as two tasks of
one memory. In process, generators alone, the same training steps for all four methods:

    base            as it is shipped, for comparison: no step at all
    gan_memory      a style on the frozen base
    whole base      every weight of generator and discriminator is trained, from the base, with the same recipe: what a
                    learner could do who kept one network per task
    dgmw            masks over weights that grow, no base

Prints one Markdown table. *kernel distance*: of samples to held-out real images, in the space of a feature network that
the benchmark trains on real ones (figures of two data sets are in two spaces). *share*: numbers that the task stores
over weights of the base's generator. *earlier tasks*: whether their seeded samples are the same bytes as before it.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from harness import data, schooling, tables
from harness.lines import Line
from harness.schooling import Book, Pupil, Yardstick, base_for

from dgm_core.experts import FrozenExpert
from dgm_core.manifest import DataSpec
from dgm_core.memories.dgmw import DGMw
from dgm_core.memories.gan_memory import GanMemory
from dgm_core.memories.taught import TaughtMemory
from dgm_core.memory import TaskData
from dgm_core.style.base import Base
from dgm_core.style.foundation import COLUMNS, Foundation
from dgm_core.training.adversarial import train_generator
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.clock import Clock
from dgm_core.training.devices import placed
from dgm_core.training.recipes import STYLE
from dgm_core.training.trainees import Free
from memory_server.demo.datasets import Dataset

BASE, STYLED, WHOLE, MASKED = METHODS = ("base", "gan_memory", "whole base", "dgmw")
KINDS: dict[str, type[TaughtMemory]] = {STYLED: GanMemory, MASKED: DGMw}


@dataclass(frozen=True)
class Domain:
    """A task: some classes of a data set."""

    dataset: str
    classes: tuple[int, ...]


DOMAINS = {
    "digits": Domain("mnist", tuple(range(10))),
    "animals": Domain("cifar10", (2, 3, 4, 5, 6, 7)),
    "vehicles": Domain("cifar10", (0, 1, 8, 9)),
}


def main() -> int:
    """Teaches, measures and prints the table."""
    wish = arguments()
    torch.set_num_threads(wish.threads)
    settings = {name: getattr(wish, name) for name in ("steps", "seed", "images", "measured", "feature_steps")}
    try:
        sets = {name: data.load(name, wish.seed, wish.images) for name in {DOMAINS[t].dataset for t in wish.tasks}}
    except data.MissingData as error:
        print(f"domains.py: {error}", file=sys.stderr)
        return 2
    school = School(sets, wish.state, Book(wish.out, "domains", settings), wish)
    measured = [school.line(task, method) for method in wish.methods for task in wish.tasks]
    print(markdown(measured))
    return 0


class School:
    """Teaches every task by every method.

    Arguments:
        sets: data sets by name.
        folder: where blobs and feature networks are kept.
        book: of what was measured.
        wish: the command line.
    """

    def __init__(self, sets: dict[str, Dataset], folder: Path, book: Book, wish: argparse.Namespace) -> None:
        self.sets, self.folder, self.book, self.wish = sets, folder, book, wish
        self.pupils: dict[tuple[str, str], Pupil] = {}
        self.yardsticks: dict[str, Yardstick] = {}

    def line(self, task: str, method: str) -> Line:
        """What is measured of one task by one method; tasks of one memory come in their order."""
        domain = DOMAINS[task]
        ways: dict[str, Callable[[], Line]] = {
            BASE: partial(self._of_base, domain, steps=0),
            WHOLE: partial(self._of_base, domain, steps=self.wish.steps),
        }
        if method in ways:
            line = ways[method]
        else:
            index = self._pupil(domain.dataset, method).learn(task, domain.classes, self.wish.steps)
            line = partial(self._of_memory, task, method, index)
        return self.book.once((task, method), line)

    def _of_memory(self, task: str, method: str, index: int) -> Line:
        domain = DOMAINS[task]
        pupil = self._pupil(domain.dataset, method)
        return self._measured(pupil.expert(index), domain) | {
            "task": task,
            "method": method,
            "values": schooling.values_in(pupil.blobs[index]),
            "bytes": len(pupil.blobs[index]),
            "base_values": base_for(pupil.spec).parameters if method == STYLED else None,
            **pupil.about[index],
        }

    def _of_base(self, domain: Domain, steps: int) -> Line:
        spec = schooling.spec_of(self.sets[domain.dataset].train)
        base = base_for(spec)
        real = schooling.task_data(self.sets[domain.dataset].train, domain.classes)
        expert, seconds = trained_whole(base, spec, real, steps, self.wish.seed)
        return self._measured(expert, domain) | {
            "task": next(name for name, each in DOMAINS.items() if each == domain),
            "method": WHOLE if steps else BASE,
            "values": base.parameters if steps else 0,
            "bytes": 4 * base.parameters if steps else 0,
            "base_values": base.parameters,
            "seconds_per_step": seconds,
            "earlier": None,
        }

    def _measured(self, expert: FrozenExpert, domain: Domain) -> Line:
        if domain.dataset not in self.yardsticks:
            file = self.folder / f"features-{domain.dataset}-{self.wish.feature_steps}.safetensors"
            print(f"feature network of {domain.dataset}", file=sys.stderr, flush=True)
            self.yardsticks[domain.dataset] = Yardstick(
                self.sets[domain.dataset], self.wish.feature_steps, file, self.wish.measured
            )
        return self.yardsticks[domain.dataset].of(expert, domain.classes)

    def _pupil(self, dataset: str, method: str) -> Pupil:
        if (dataset, method) not in self.pupils:
            where = self.folder / f"{method}-{self.wish.steps}-{self.wish.seed}-{self.wish.images}"
            options = {"seed": str(self.wish.seed)}
            self.pupils[dataset, method] = Pupil(KINDS[method], options, self.sets[dataset], where)
        return self.pupils[dataset, method]


def trained_whole(base: Base, spec: DataSpec, real: TaskData, steps: int, seed: int) -> tuple[FrozenExpert, float]:
    """A base whose every weight was trained on one task, and the processor's seconds per step; steps may be 0."""
    foundation, classes, noise = Foundation(base, spec), len(real.classes), base.design.noise
    columns = foundation.style[COLUMNS]
    network = foundation.generator({**foundation.style, COLUMNS: columns.expand(classes, *columns.shape[1:])})
    seconds = 0.0
    if steps:
        critic = base.critic(spec, classes)
        network.train().requires_grad_(True)
        network.embedding.requires_grad_(False)
        placed(network, schooling.CPU)
        placed(critic, schooling.CPU)
        batches = BalancedBatches(real.x, real.y, classes)

        def train(clock: Clock) -> None:
            train_generator(Free(network), critic, batches, STYLE, noise, steps, clock)

        seconds = schooling.timed(train, "whole base", steps, seed)
    return FrozenExpert(network.eval().folded(), real.classes, noise), seconds


def markdown(measured: list[Line]) -> str:
    """The table."""
    header = ("task", "method", "kernel distance", "bytes", "share of the base", "CPU s a step", "earlier tasks")
    rows = [
        [
            line["task"],
            line["method"],
            schooling.distance_of(line),
            str(line["bytes"]),
            f"{100 * line['values'] / line['base_values']:.1f} %" if line["base_values"] else tables.NONE,
            f"{line['seconds_per_step']:.3f}",
            {None: tables.NONE, True: "same bytes", False: "**CHANGED**"}[line["earlier"]],
        ]
        for line in sorted(
            measured, key=lambda line: (list(DOMAINS).index(line["task"]), METHODS.index(line["method"]))
        )
    ]
    return tables.table(header, rows) + "\n" + schooling.footnote(measured[-1])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = schooling.command_line(__doc__, "domains", measured=2000)
    add = parser.add_argument
    add("--steps", type=int, default=400, help="of training, for every method and task")
    add("--tasks", nargs="+", default=list(DOMAINS), choices=list(DOMAINS), metavar="TASK", help="in this order")
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD", help="only these")
    return parser.parse_args()


if __name__ == "__main__":
    started = time.monotonic()
    status = main()
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(status)
