"""What kinds that retrain one generator for every task have in common; not a kind itself.

All tasks are held by one blob, the newest: a generator of all classes, retrained on the new task and on what the one
before it replays. Learning revises every earlier entry, so that its samples may move; and since there is no telling
which weight holds which task, none can be taken out again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import ClassVar

import torch

from dgm_core.blobs import pack, unpack
from dgm_core.checkpoints import Checkpoints
from dgm_core.errors import CannotLearn
from dgm_core.experts import FrozenExpert, draw
from dgm_core.generative.gan import GanMaker
from dgm_core.generative.model import Maker, Model
from dgm_core.manifest import Blobs, DataSpec, Label, Manifest, TaskEntry
from dgm_core.memories.taught import TaughtMemory, mix
from dgm_core.memory import Bases, TaskData, Terms
from dgm_core.networks import AUTOMATIC, architecture_of
from dgm_core.options import Options
from dgm_core.training.clock import Clock
from dgm_core.training.recipes import RETRAINED, RETRAINED_PAPER, Recipe
from dgm_core.training.running import Trained


@dataclass(frozen=True)
class RetrainedOptions(Options):
    """Options of a memory that retrains its generator.

    Arguments:
        network: name of an architecture; "auto" is dcgan for images and a chain of linear layers for vectors.
        width: f of the generator's widths, which have to do for all tasks; 0 takes the recipe's.
        noise: length of z; 0 takes the recipe's.
        replayed: samples of each earlier class to retrain on; 0: as many as there were examples of it.
    """

    network: str = AUTOMATIC
    width: int = 0
    noise: int = 0
    replayed: int = 0

    def validate(self) -> None:
        """See `Options.validate`."""
        self.require_range("width", 0, 512)
        self.require_range("noise", 0, 1024)
        self.require_range("replayed", 0, 1_000_000)

    def tuned(self, recipe: Recipe) -> Recipe:
        """The recipe with what was chosen in place of its own."""
        return recipe


class RetrainedMemory(TaughtMemory):
    """One generator of all classes, retrained for every task."""

    exact = False
    consolidated = True
    recipes = MappingProxyType({"fast": RETRAINED, "paper": RETRAINED_PAPER})
    parsed: ClassVar[type[RetrainedOptions]] = RetrainedOptions
    chosen: RetrainedOptions

    @classmethod
    def options(cls, given: Mapping[str, str], spec: DataSpec, bases: Bases) -> dict[str, str]:  # noqa: ARG003
        """All options as text, defaults included."""
        options = cls.parsed.parse(given)
        recipe = cls.recipe_of(options.recipe)
        complete = replace(options, width=options.width or recipe.width, noise=options.noise or recipe.noise)
        architecture_of(complete.network, spec, complete.noise)  # is refused if it does not suit such data
        return complete.text()

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        super().__init__(manifest, blobs)
        self.recipe = self.chosen.tuned(self.recipe)
        architecture = architecture_of(self.chosen.network, manifest.spec, self.chosen.noise)
        self.maker: Maker = GanMaker(architecture, self.chosen.width, self.recipe)
        self.model: Model | None = None
        for task in manifest.tasks[-1:]:
            self.append(blobs[task.blob], task.task)

    def recalled(self, taught: tuple[Label, ...]) -> tuple[Label, ...]:  # noqa: ARG002 - for kinds that hold some
        """The known classes of which samples are shown beside a task of the classes `taught`: all of them."""
        return self.manifest.classes

    def shown(self, real: TaskData, pulse: Callable[[], None]) -> TaskData:
        """What the generator is trained on: the new task, and replay of what is recalled beside it.

        Arguments:
            real: of the new task.
            pulse: called now and then; may raise `Cancelled`.
        """
        recalled = self.recalled(real.classes)
        return together(self.replay(recalled, real.x.device, pulse), real) if recalled else real

    def counted(self, data: TaskData) -> tuple[int, int]:
        """See `TaughtMemory.counted`: what is recalled takes as much training as what is new."""
        recalled = self.recalled(data.classes)
        return len(data) + sum(map(self._replayed, recalled)), len({*recalled, *data.classes})

    def seed_of(self, task: str) -> int:  # noqa: ARG002 - each retrains what the one before has left
        """From the memory's seed and the number of tasks that are learned."""
        return mix(self.chosen.seed, len(self.manifest.tasks), "retraining")

    def trained(
        self,
        real: TaskData,
        task: str,
        terms: Terms,  # noqa: ARG002 - they hold for all tasks alike
        steps: int,
        clock: Clock,
        device: torch.device,
        checkpoints: Checkpoints,
    ) -> tuple[bytes, Trained]:
        """See `TaughtMemory.trained`."""
        pulse = partial(clock.tick, "generator", 0, steps)
        model, trained = self.maker.fit(self.shown(real, pulse), self.model, steps, clock, device, checkpoints)
        return pack(model.tensors(), {"kind": self.kind, "task": task, "model": dict(model.about())}), trained

    def append(self, blob: bytes, task: str) -> None:  # noqa: ARG002 - it holds all tasks
        """See `TaughtMemory.append`."""
        tensors, about = unpack(blob)
        self.model = self.maker.load(tensors, about["model"])

    def materialised(self, index: int, classes: tuple[Label, ...]) -> FrozenExpert:  # noqa: ARG002 - one holds all
        """The expert of one task: the generator of all classes, as far as it generates those of the task."""
        return self._held.expert(classes)

    def revised(self, blob: str) -> tuple[TaskEntry, ...]:
        """The manifest's tasks, all held by the newest blob."""
        return tuple(
            replace(task, blob=blob, experts=tuple(self.entry_of(0, e.classes, e.examples) for e in task.experts))
            for task in self.manifest.tasks
        )

    def replay(self, classes: tuple[Label, ...], device: torch.device, pulse: Callable[[], None]) -> TaskData:
        """Samples of some classes that are learned, labelled by what they were generated from."""
        expert = self._held.expert(classes).to(device)
        source = torch.Generator().manual_seed(mix(self.chosen.seed, len(self.manifest.tasks), "replay"))
        pools = []
        for label in classes:
            pulse()
            pools.append(draw(expert, label, self._replayed(label), self.manifest.spec, device, source))
        y = torch.cat([torch.full((len(x),), index, device=device) for index, x in enumerate(pools)])
        return TaskData(torch.cat(pools), y, expert.classes)

    def _replayed(self, label: Label) -> int:
        """How many samples of a class are replayed: as many as there were examples of it in all tasks, by default."""
        seen = (dict(zip(entry.classes, entry.examples, strict=True)) for _, entry in self.manifest.experts())
        return self.chosen.replayed or sum(each.get(label, 0) for each in seen)

    @property
    def _held(self) -> Model:
        """The generator of all tasks."""
        assert self.model is not None, "nothing is learned yet"
        return self.model

    def _check(self, data: TaskData, terms: Terms) -> None:
        super()._check(data, terms)
        if terms.erasable:
            raise CannotLearn(
                "terms.erasable",
                f"a memory of kind {self.kind} holds all tasks in one generator, so that none can be taken out again; "
                "learn without erasable, or in a memory of a kind that keeps tasks apart (docs/kinds.md)",
            )


def together(first: TaskData, second: TaskData) -> TaskData:
    """The examples of both; classes in the order in which they occur first."""
    classes = tuple(dict.fromkeys([*first.classes, *second.classes]))
    rows = [torch.tensor([classes.index(label) for label in data.classes])[data.y.cpu()] for data in (first, second)]
    return TaskData(torch.cat([first.x, second.x]), torch.cat(rows).to(first.y.device), classes)
