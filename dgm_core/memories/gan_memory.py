"""GAN memory: a frozen base, and a few style parameters per task (Cong et al. 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dgm_core.analysis import Analysis, LayerUse
from dgm_core.blobs import pack, unpack
from dgm_core.checkpoints import Checkpoints
from dgm_core.errors import CannotBlend
from dgm_core.evaluation.nearest import nearest
from dgm_core.experts import FrozenExpert
from dgm_core.manifest import Blobs, DataSpec, Label, Manifest
from dgm_core.memories.taught import TaughtMemory, mix
from dgm_core.memory import Bases, Blend, TaskData, Terms
from dgm_core.options import Options
from dgm_core.style.base import Base
from dgm_core.style.blending import Side, blended, chosen_class
from dgm_core.style.foundation import COLUMNS, Foundation, Style
from dgm_core.style.knowledge import Factored, Knowledge, energy_at, restored
from dgm_core.style.modulation import Site, Statistics, whole
from dgm_core.training.adversarial import train_generator
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.clock import Clock
from dgm_core.training.devices import placed
from dgm_core.training.recipes import STYLE, STYLE_PAPER
from dgm_core.training.running import Trained
from dgm_core.training.trainees import Styled

FULL, LOWRANK, SHARED = "full", "lowrank", "shared"
FROM_BASE, FROM_NEAREST = "base", "nearest"
MOST_TRUNCATION = 4


@dataclass(frozen=True)
class StyleOptions(Options):
    """Options of a GAN memory.

    Arguments:
        base: digest of the frozen base; a name while it is being chosen.
        styles: "full": every statistic of a task is stored; "lowrank": in low rank, each task on its own; "shared": in
            low rank on what earlier tasks have added to a knowledge base.
        start: "base": every task starts as the base; "nearest": as the learned style that is nearest to its data.
        truncation: what styles in low rank, and shared ones, lose of their energy, over what the paper has them lose
            (a fifth close to the noise, a twentieth from the middle on): less of it is nearer to "full", and larger.
    """

    base: str = ""
    styles: str = FULL
    start: str = FROM_BASE
    truncation: float = 1.0

    def validate(self) -> None:
        """See `Options.validate`."""
        self.require_one_of("styles", (FULL, LOWRANK, SHARED))
        self.require_one_of("start", (FROM_BASE, FROM_NEAREST))
        self.require_range("truncation", 0, MOST_TRUNCATION)


class GanMemory(TaughtMemory):
    """Tasks modulate a frozen base and share nothing else, unless they build up knowledge together."""

    kind = "gan_memory"
    vectors = False
    recipes: ClassVar = {"fast": STYLE, "paper": STYLE_PAPER}
    parsed: ClassVar[type[StyleOptions]] = StyleOptions
    chosen: StyleOptions

    @classmethod
    def options(cls, given: Mapping[str, str], spec: DataSpec, bases: Bases) -> dict[str, str]:
        """All options as text, the base by its digest."""
        options = super().options(given, spec, bases)
        digest, _ = bases.find(options["base"], spec)
        return {**options, "base": digest}

    @classmethod
    def side_by_side(cls, options: Mapping[str, str]) -> bool:
        """Unless a task may stand on another."""
        chosen = cls.parsed.parse(options)
        return chosen.styles != SHARED and chosen.start == FROM_BASE

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        super().__init__(manifest, blobs)
        base = Base.unpack(blobs[manifest.base])
        if base.digest != manifest.base:
            raise ValueError(
                f"the memory stands on the base {manifest.base}, and what is stored under that name is {base.digest}: "
                "the file was changed; restore it from a backup"
            )
        self.foundation = Foundation(base, manifest.spec)
        self.noise = base.design.noise
        self.knowledge = Knowledge()
        self.owners: list[str] = []  # of what is in the knowledge base, in its order
        self.styles: list[Style] = []
        self.weights: list[dict[str, Tensor]] = []  # of the vectors in the knowledge base, each task's own included
        self.tasks: list[str] = []
        self.stood_on: list[tuple[str, ...]] = []
        self.sides: dict[tuple[str, Label | None], Side] = {}  # of blends, by task and class
        for task in manifest.tasks:
            self.append(blobs[task.blob], task.task)

    def seed_of(self, task: str) -> int:
        """From the memory's seed and the task's name alone: tasks may be learned in any order, and be forgotten."""
        return mix(self.chosen.seed, task, "style")

    def trained(
        self,
        real: TaskData,
        task: str,
        terms: Terms,
        steps: int,
        clock: Clock,
        device: torch.device,
        checkpoints: Checkpoints,
    ) -> tuple[bytes, Trained]:
        """See `TaughtMemory.trained`."""
        classes = len(real.classes)
        student = self.foundation.student(classes, part=whole if self.chosen.styles == FULL else self._factored)
        critic = self.foundation.critic(classes)
        placed(critic, device)
        start = self._start(real, critic.features, device)
        if start is not None:
            index = self.tasks.index(start)
            self.foundation.wear(student, self.styles[index], self.weights[index])
        placed(student, device)
        batches = BalancedBatches(real.x, real.y, classes)
        g = Styled(student, self.recipe)
        trained = train_generator(g, critic, batches, self.recipe, self.noise, steps, clock, checkpoints)
        biases, makers = self.foundation.read(student)
        about = {"kind": self.kind, "task": task, "start": start, "shares": self._shares(terms)}
        return pack(biases | _stored(makers), about), trained

    def append(self, blob: bytes, task: str) -> None:
        """See `TaughtMemory.append`."""
        tensors, about = unpack(blob)
        style, known = dict(self.foundation.style), False
        weights: dict[str, Tensor] = {}
        for name in style:
            factors = {k.removeprefix(f"{name}/"): t for k, t in tensors.items() if k.startswith(f"{name}/")}
            if factors:
                start = self.foundation.style[name]
                knowledge = self.knowledge.of(name, start)
                style[name] = restored(start, factors, knowledge)
                known = known or len(factors["coefficients"]) > 0
                weights[name] = factors["coefficients"]
                if about["shares"]:
                    self.knowledge.add(name, factors["left"], factors["right"])
                    weights[name] = torch.cat([weights[name], factors["values"]])
            else:
                style[name] = tensors[name]
        on = [*(self.owners if known else []), *([about["start"]] if about["start"] else [])]
        self.stood_on.append(tuple(dict.fromkeys(on)))
        if about["shares"]:
            self.owners.append(task)
        self.styles.append(style)
        self.weights.append(weights)
        self.tasks.append(task)

    def materialised(self, index: int, classes: tuple[Label, ...]) -> FrozenExpert:
        """The expert of one task: the base in its style."""
        return self._expert(self.styles[index], classes)

    def reuses(self) -> tuple[str, ...]:
        """Whose singular vectors, or whose style, the newest task started from."""
        return self.stood_on[-1]

    def blended(self, blend: Blend) -> FrozenExpert:
        """See `GenerativeMemory.blended`."""
        start, end = self._side(blend.start, blend.classes[0], "start"), self._side(blend.end, blend.classes[1], "end")
        label = chosen_class(blend.classes[1], self._classes(blend.end))
        style = blended(self.foundation, start, end, blend)
        return self._expert(style, (label,))

    def analysis(self, trained: Trained, blob: bytes) -> Analysis:
        """What the newest task stores for each layer, against a style that stores every statistic."""
        tensors, _ = unpack(blob)
        layers: dict[str, LayerUse] = {}
        for path in self.foundation.layers:
            ours = {k: t for k, t in tensors.items() if k.split("/")[:2] in (["scale", path], ["shift", path])}
            layers[path] = {
                "size": self.foundation.base.generator[f"{path}.weight"].numel(),
                "reserved": sum(t.numel() for t in ours.values()),
                "reused": sum(t.numel() for k, t in ours.items() if k.endswith("/coefficients")),
                "free": 0,
            }
        biases = sum(t.numel() for k, t in tensors.items() if k.startswith("bias/"))
        naive = sum(t.numel() for k, t in self.foundation.style.items() if not k.startswith("bias/"))
        weights = sum(t.nbytes for k, t in tensors.items() if not k.startswith("bias/"))
        return {
            "gate": "style",
            "order": list(layers),
            "layers": layers,
            "trajectory": trained.trajectory,
            "parameters": biases + sum(layer["reserved"] for layer in layers.values()),
            "worst_case": biases + naive,
            "bytes": {"weights": weights, "masks": 0, "own": len(blob) - weights},
        }

    def _factored(self, name: str, site: Site, start: Tensor) -> Statistics:
        """Matrices in low rank; what statistics there are per row is little, and kept whole."""
        if not site.kernels:
            return whole(name, site, start)
        matrices = [each.path for each in self.foundation.sites if each.kernels]
        energy = energy_at(matrices.index(site.path), len(matrices), self.chosen.truncation)
        return Factored(start, *self.knowledge.of(name, start), energy)

    def _shares(self, terms: Terms) -> bool:
        """Whether later tasks may use the vectors that this one adds."""
        return self.chosen.styles == SHARED and not terms.erasable

    def _start(self, real: TaskData, features: nn.Module, device: torch.device) -> str | None:
        """The task to start from; those that must stay erasable are none's."""
        if self.chosen.start == FROM_BASE:
            return None
        experts = {task.task: self.expert(entry.digest) for task, entry in self.manifest.experts() if not task.erasable}
        return nearest(real, experts, features, self.manifest.spec, device)

    def _side(self, task: str, label: Label | None, side: str) -> Side:
        """A task's style with the bias of one class, or that of the base; kept, for it is needed for every weight."""
        if not task and side == "start":
            return self.sides.setdefault(("", None), Side(self.foundation, self.foundation.style))
        if task not in self.tasks:
            raise CannotBlend(
                side, f"this memory has no task {task!r}; its tasks are {', '.join(self.tasks) or 'none'}"
            )
        style, classes = self.styles[self.tasks.index(task)], self._classes(task)
        label = chosen_class(label, classes)
        index = classes.index(label)
        one = {**style, COLUMNS: style[COLUMNS][index : index + 1]}
        return self.sides.setdefault((task, label), Side(self.foundation, one))

    def _classes(self, task: str) -> tuple[Label, ...]:
        return next((each.classes for each in self.manifest.tasks if each.task == task), ())

    def _expert(self, style: Style, classes: tuple[Label, ...]) -> FrozenExpert:
        return FrozenExpert(self.foundation.generator(style).folded(), classes, self.noise)


def _stored(makers: Mapping[str, Statistics]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, maker in makers.items():
        if isinstance(maker, Factored):
            tensors |= {f"{name}/{part}": t.detach().cpu() for part, t in maker.tensors().items()}
        else:
            tensors[name] = maker().detach().cpu()
    return tensors
