"""Tasks taught in process: generators alone, from the same images, for the same steps, at the same distance measured.

What is measured is kept line by line in a file, and what is trained in a folder: the same command goes on after a kill.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dgm_core.blobs import digest as digest_of
from dgm_core.blobs import unpack
from dgm_core.checkpoints import NONE
from dgm_core.evaluation.distances import kernel_distance
from dgm_core.experts import FrozenExpert, to_storage
from dgm_core.manifest import DataSpec, Manifest, TaskEntry
from dgm_core.memories.taught import TaughtMemory
from dgm_core.memory import Expert, Progress, Report, TaskData, Terms
from dgm_core.style.base import Base
from dgm_core.style.library import SHIPPED
from dgm_core.training.clock import Clock
from harness import lines
from harness.lines import Line
from harness.space import kept, network_of
from memory_server.demo.datasets import Dataset, Part

CPU = torch.device("cpu")
ALONE = {"generator": 1.0}
"""Shares of a clock: no quality is judged and no solver trained."""

SAMPLE_SEED = 2026
SPEAK_EVERY = 15.0
PROBES = 32


def command_line(about: str | None, name: str, measured: int) -> argparse.ArgumentParser:
    """What all scripts that teach in process can be told.

    Arguments:
        about: the script's own words.
        name: of the folder that it keeps what it trains in.
        measured: how many real images it compares with, unless it is told.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images", type=int, help="at most so many of each class to learn from")
    add("--measured", type=int, default=measured, help="real images, and samples, that are compared at a time, at most")
    add("--feature-steps", type=int, default=600, help="of the feature network")
    add("--seed", type=int, default=0, help="of what is trained")
    add("--threads", type=int, default=1, help="of everything")
    add("--state", type=Path, default=Path("memory-data") / name, help="folder of what was trained")
    add("--out", type=Path, default=Path("results.jsonl"), help="where lines of results are appended, and reused from")
    return parser


def spec_of(part: Part) -> DataSpec:
    """Shape of the images."""
    return DataSpec(tuple(part.x.shape[1:]), "uint8")


def task_data(part: Part, classes: tuple[int, ...]) -> TaskData:
    """The images of some classes as a memory is taught them."""
    chosen = part.of(classes)
    places = {label: index for index, label in enumerate(classes)}
    y = torch.tensor([places[int(label)] for label in chosen.y])
    return TaskData(torch.from_numpy(np.array(chosen.x)), y, classes)


def timed(train: Callable[[Clock], Any], what: str, steps: int, seed: int) -> float:
    """Trains in a random state of its own and returns the processor's seconds per step."""
    started = time.process_time()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        train(Clock(spoken(what), None, ALONE))
    return (time.process_time() - started) / steps


def taught(memory: TaughtMemory, real: TaskData, task: str, steps: int) -> tuple[bytes, float]:
    """The blob of the next task, which is not taken in yet, and the processor's seconds per step."""
    blobs: list[bytes] = []

    def train(clock: Clock) -> None:
        blobs.append(memory.trained(real, task, Terms(), steps, clock, CPU, NONE)[0])

    seconds = timed(train, f"{memory.kind} {task}", steps, memory.seed_of(task))
    return blobs[0], seconds


def values_in(blob: bytes) -> int:
    """How many numbers a task stores."""
    return sum(t.numel() for t in unpack(blob)[0].values())


def spoken(what: str) -> Report:
    """Progress on standard error, now and then."""
    last = float("-inf")

    def report(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > SPEAK_EVERY:
            last = time.monotonic()
            left = "" if progress.seconds_left is None else f", about {progress.seconds_left:.0f} s left"
            print(f"{what}: step {progress.step} of {progress.steps}{left}", file=sys.stderr, flush=True)

    return report


class Pupil:
    """A memory and the tasks that it has been taught, in order.

    Arguments:
        kind: of the memory.
        options: of the kind.
        examples: a data set.
        folder: where its blobs are kept; a task that is there is not trained again.
    """

    def __init__(self, kind: type[TaughtMemory], options: Mapping[str, str], examples: Dataset, folder: Path) -> None:
        self.examples, self.folder, self.spec = examples, folder, spec_of(examples.train)
        manifest = Manifest(kind.kind, kind.options(options, self.spec, SHIPPED), self.spec)
        base = {manifest.base: SHIPPED.find(manifest.base, self.spec)[1]} if manifest.base else {}
        self.memory = kind(manifest, base)
        self.tasks: list[str] = []
        self.classes: list[tuple[int, ...]] = []
        self.blobs: list[bytes] = []
        self.about: list[Line] = []

    def learn(self, task: str, classes: tuple[int, ...], steps: int) -> int:
        """Learns a task unless it is learned; its place.

        Leaves in `about` the processor's seconds_per_step, and whether samples of the `earlier` tasks are the same
        bytes as before it; None for the first.
        """
        if task not in self.tasks:
            before = self._probes()
            note = self.folder / f"{task}.json"
            blob = kept(self.folder / f"{task}.safetensors", partial(self._taught, task, classes, steps, note))
            self.memory = self._with(blob, task, classes)
            same = self._probes() == before if before else None
            self.tasks.append(task)
            self.classes.append(classes)
            self.blobs.append(blob)
            self.about.append({**json.loads(note.read_text()), "earlier": same})
        return self.tasks.index(task)

    def expert(self, index: int) -> FrozenExpert:
        """What a task is sampled from."""
        return self.memory.materialised(index, self.classes[index])

    def _taught(self, task: str, classes: tuple[int, ...], steps: int, note: Path) -> bytes:
        blob, seconds = taught(self.memory, task_data(self.examples.train, classes), task, steps)
        note.write_text(json.dumps({"seconds_per_step": seconds}))
        return blob

    def _with(self, blob: bytes, task: str, classes: tuple[int, ...]) -> TaughtMemory:
        """The memory with one more task in its manifest, where later ones look for what they may start from."""
        memory = self.memory
        memory.append(blob, task)
        expert = memory.entry_of(len(self.tasks), classes, (1,) * len(classes))
        entry = TaskEntry(task, digest_of(blob), (expert,), quality=0.0, steps=0, seconds=0.0)
        manifest = replace(memory.manifest, tasks=(*memory.manifest.tasks, entry))
        return type(memory)(manifest, {**memory.blobs, entry.blob: blob})

    def _probes(self) -> list[str]:
        """Digests of seeded samples of every task."""
        samples = (drawn(self.expert(index), PROBES, self.spec) for index in range(len(self.tasks)))
        return [hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in samples]


def base_for(spec: DataSpec) -> Base:
    """The shipped base that a memory of such data takes."""
    return Base.unpack(SHIPPED.find("", spec)[1])


class Yardstick:
    """Kernel distance between samples and held-out real images, in the space of a feature network trained on real ones.

    Arguments:
        examples: a data set; the network learns to tell its classes apart.
        steps: of that network.
        file: where it is kept.
        images: how many real images a task is compared with, at most, and with as many samples.
    """

    def __init__(self, examples: Dataset, steps: int, file: Path, images: int) -> None:
        self._test, self._images = examples.test, images
        self._network = network_of(examples.train, steps, file, CPU)

    def of(self, expert: Expert, classes: tuple[int, ...]) -> Line:
        """kernel_distance and its standard_error of one task, from the same noise whoever generates."""
        each = min(self._images // len(classes), *(int((self._test.y == label).sum()) for label in classes))
        rows = np.concatenate([np.flatnonzero(self._test.y == label)[:each] for label in classes])
        real = self._network.features(torch.from_numpy(self._test.x[rows])).double()
        samples = self._network.features(drawn(expert, each, spec_of(self._test))).double()
        distance = kernel_distance(real, samples, torch.Generator().manual_seed(SAMPLE_SEED))
        return {"kernel_distance": distance.value, "standard_error": distance.standard_error}


def drawn(expert: Expert, each: int, spec: DataSpec) -> torch.Tensor:
    """Images of each class of an expert, from the same noise at any time."""
    source = torch.Generator().manual_seed(SAMPLE_SEED)
    c = torch.arange(len(expert.classes)).repeat_interleave(each)
    z = torch.randn(len(c), expert.noise_dim, generator=source)
    pairs = zip(z.split(256), c.split(256), strict=True)
    return torch.cat([to_storage(expert.generate(some, which), spec) for some, which in pairs])


class Book:
    """Measured lines; what is in the file already is not measured again.

    Arguments:
        path: of the file.
        script: whose lines they are.
        settings: what every line depends on.
    """

    def __init__(self, path: Path, script: str, settings: Mapping[str, Any]) -> None:
        self.path, self.script, self.settings = path, script, dict(settings)

    def once(self, key: tuple[str, ...], measure: Callable[[], Line]) -> Line:
        """The line of that key, measured now if it was not yet."""
        known = self.known(key)
        if known is None:
            known = self._about(key) | self.settings | lines.origin(CPU) | measure()
            lines.append(self.path, known)
        return known

    def known(self, key: tuple[str, ...]) -> Line | None:
        """The line of that key; None if it was not measured yet."""
        return lines.with_all(self.path, self._about(key))

    def _about(self, key: tuple[str, ...]) -> Line:
        return {"run": self.script, "what": self.script, "key": [*key, *map(str, self.settings.values())]}


def footnote(line: Line) -> str:
    """Where a table comes from."""
    return f"\n`{line['command']}`, {line['date']}; {line['hardware']}; torch {line['versions']['torch']}"


def distance_of(line: Line) -> str:
    """A distance with its standard error, for a table."""
    return f"{line['kernel_distance']:.4f} ± {line['standard_error']:.4f}"
