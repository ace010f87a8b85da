"""What memories of masked weights have in common; not a kind itself.

A task learns masks over the shared weights, its own norms and output layer. Its blob is the page that it wrote into the
ledger of shared weights and those parameters of its own; its expert is derived from blobs alone, when it is learned as
well as whenever it is loaded, so that there is only one way to the bytes that are sampled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from dgm_core.blobs import digest as digest_of
from dgm_core.blobs import pack, unpack
from dgm_core.evaluation.reverse import reverse_accuracy
from dgm_core.experts import FrozenExpert
from dgm_core.masking.expansion import expanded_widths
from dgm_core.masking.ledger import Ledger, Page
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.memory import (
    Blobs,
    Terms,
    CannotLearn,
    Expert,
    ExpertEntry,
    GenerativeMemory,
    Label,
    Learned,
    Manifest,
    QualityTooLow,
    Report,
    Shared,
    TaskData,
    TaskEntry,
)
from dgm_core.networks.generators import (
    ChainGenerator,
    Rescale,
    chain_generator,
    initial_std,
    initial_widths,
    layer_sizes,
    weight_shapes,
)
from dgm_core.replay import Load, replay_pools
from dgm_core.solvers import ClassifierSolver
from dgm_core.training.adversarial import train_generator
from dgm_core.training.batches import BalancedBatches, split, standardisation
from dgm_core.training.classifying import Pool, train_classifier
from dgm_core.training.clock import Clock, limit_of
from dgm_core.training.recipes import recipe_of

HELD_OUT = 0.1
FEWEST_EXAMPLES = 8
FEWEST_CLASSIFIER_STEPS = 20


@dataclass(frozen=True)
class Options:
    """What a user may choose about a memory of masked weights; it holds for all its tasks.

    Arguments:
        seed: initialises free weights and drives training.
        recipe: "fast" or "paper".
        width: f of the generator's widths … 4f, 2f, f; 0 takes the recipe's.
        noise: length of z.
    """

    seed: int
    recipe: str = "fast"
    width: int = 0
    noise: int = 128

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Options from text. Raises CannotLearn with the field and the valid ones."""
        types: dict[str, Any] = {f.name: f.type for f in fields(cls)}
        for name, text in given.items():
            if name not in types:
                raise CannotLearn(f"options.{name}", f"there is no option {name!r}; the options are {', '.join(types)}")
            if types[name] is int and not text.removeprefix("-").isdigit():
                raise CannotLearn(f"options.{name}", f"{name} must be a whole number, not {text!r}")
        return cls(**{name: types[name](text) for name, text in given.items()})._validated()

    def _validated(self) -> Self:
        for name, low, high in (("width", 0, 512), ("noise", 1, 1024), ("seed", 0, 2**63 - 1)):
            if not low <= getattr(self, name) <= high:
                raise CannotLearn(f"options.{name}", f"{name} is {getattr(self, name)}; it must be {low} to {high}")
        return replace(self, width=self.width or recipe_of(self.recipe).width)


class MaskedMemory(GenerativeMemory):
    """A generator of growing shared weights with masks per task  [DGM eq. 1]."""

    @classmethod
    def options(cls, given: Mapping[str, str]) -> dict[str, str]:
        """All options as text, defaults included."""
        return {name: str(value) for name, value in asdict(Options.parse(given)).items()}

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        self.manifest, self.blobs = manifest, blobs
        self.chosen = Options.parse(manifest.options)
        self.recipe = recipe_of(self.chosen.recipe)
        self.ledger = Ledger()
        self.widths: list[tuple[int, ...]] = []
        self.own: list[dict[str, Tensor]] = []
        for task in manifest.tasks:
            tensors, about = unpack(blobs[task.blob])
            self._append(tensors, tuple(about["widths"]))

    def expert(self, digest: str) -> Expert:
        """Materialises one expert of the manifest, on the CPU."""
        for index, task in enumerate(self.manifest.tasks):
            for entry in task.experts:
                if entry.digest == digest:
                    return self._verified(self._materialise(index, entry.classes), task.task, digest)
        raise KeyError(f"no expert of this revision has the digest {digest}")

    def solver(self) -> ClassifierSolver:
        """The task solver of this revision."""
        return ClassifierSolver.unpack(self.manifest.spec, self.blobs[self.manifest.shared["solver"]])

    def learn(self, data: TaskData, *, task: str, terms: Terms, report: Report, device: torch.device) -> Learned:
        """Trains on one task and returns what must be kept of it."""
        self._check(data)
        clock = Clock(report, limit_of(terms.seconds, self.recipe.seconds))
        return _Lesson(self, data, task, terms, clock, device).run()

    def restore(self, *, report: Report, device: torch.device) -> Shared:
        """Trains the solver anew, on samples of every task that is left."""
        clock = Clock(report, self.recipe.seconds)
        seed = _mix(self.chosen.seed, self.manifest.revision, "restoring")
        heads, steps = self.manifest.classes, self.recipe.classifier_steps
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            pools = replay_pools(
                [e for _, e in self.manifest.experts()],
                lambda e: self.expert(e.digest),
                heads,
                self.recipe.replay,
                self.manifest.spec,
                device,
                torch.Generator().manual_seed(seed),
            )

            def go_on(step: int) -> bool:
                clock.tick("solver", step, steps)
                return step < FEWEST_CLASSIFIER_STEPS or not clock.over("solver")

            network = train_classifier(self.manifest.spec, len(heads), pools, steps, go_on)
        blob = ClassifierSolver(self.manifest.spec, network.cpu(), heads).pack()
        return Shared({"solver": digest_of(blob)}, {digest_of(blob): blob})

    def successor(self, blob: bytes) -> "MaskedMemory":
        """This memory with one more task blob, not yet in any manifest."""
        memory = type(self)(self.manifest, self.blobs)
        tensors, about = unpack(blob)
        memory._append(tensors, tuple(about["widths"]))
        return memory

    def newest(self, classes: tuple[Label, ...]) -> FrozenExpert:
        """The expert of the task that was appended last."""
        return self._materialise(len(self.own) - 1, classes)

    def grown(self) -> tuple[int, ...]:
        """Widths for the next task: free capacity is what it was before the first  [DGM sec. 3.2]."""
        spec, noise = self.manifest.spec, self.chosen.noise
        widths = initial_widths(spec, self.chosen.width)
        capacity = layer_sizes(spec, widths, noise)
        if not self.widths:
            return widths
        reserved = [int(self.ledger.reserved[name].sum()) for name in weight_shapes(spec, widths, noise)]
        return expanded_widths(self.widths[-1], reserved, capacity, lambda w: layer_sizes(spec, w, noise))

    def fresh_network(self, widths: Sequence[int], classes: int) -> tuple[ChainGenerator, dict[str, Tensor]]:
        """A generator for the next task and m^{<t} in its shapes; reserved weights are in place, free ones are new.

        Free weights are initialised from (memory seed, task index), whatever earlier tasks left in them.
        """
        spec = self.manifest.spec
        ledger = self.ledger.copy()
        ledger.grow(weight_shapes(spec, widths, self.chosen.noise))
        network = chain_generator(spec, widths, classes, self.chosen.noise)
        source = torch.Generator().manual_seed(_mix(self.chosen.seed, len(self.own)))
        with torch.no_grad():
            for name in network.shared_names:
                reserved = ledger.reserved[name]
                free = torch.randn(reserved.shape, generator=source) * initial_std(spec)
                network.get_parameter(name).copy_(torch.where(reserved, ledger.weights[name], free))
        return network, ledger.reserved

    def _append(self, tensors: Mapping[str, Tensor], widths: tuple[int, ...]) -> None:
        self.widths.append(widths)
        self.ledger.append(Page.from_tensors(tensors))
        self.own.append({k.removeprefix("own/"): t for k, t in tensors.items() if k.startswith("own/")})

    def _materialise(self, index: int, classes: tuple[Label, ...]) -> FrozenExpert:
        effective = self.ledger.effective(index)
        network = chain_generator(self.manifest.spec, self.widths[index], len(classes), self.chosen.noise)
        network.load_state_dict({**effective, **self.own[index]})
        return FrozenExpert(network.eval().folded(), classes, self.chosen.noise)

    def _verified(self, expert: FrozenExpert, task: str, digest: str) -> FrozenExpert:
        if expert.digest != digest:
            raise ValueError(
                f"the expert of task {task} has the digest {expert.digest}, but the catalog says {digest}: "
                "a blob was changed, or this torch version computes differently from the one that learned it"
            )
        return expert

    def _check(self, data: TaskData) -> None:
        spec = self.manifest.spec
        if tuple(data.x.shape[1:]) != spec.shape:
            raise CannotLearn("spec.shape", f"this memory holds x of shape {spec.shape}, not {tuple(data.x.shape[1:])}")
        counts = torch.bincount(data.y, minlength=len(data.classes)).tolist()
        for label, count in zip(data.classes, counts, strict=True):
            if count < FEWEST_EXAMPLES:
                raise CannotLearn(
                    "count",
                    f"class {label!r} has {count} examples, but at least {FEWEST_EXAMPLES} are needed to learn it",
                )


class _Lesson:
    """One run of `learn`, phase by phase."""

    def __init__(
        self, memory: MaskedMemory, data: TaskData, task: str, terms: Terms, clock: Clock, device: torch.device
    ) -> None:
        self.memory, self.task, self.terms, self.clock, self.device = memory, task, terms, clock, device
        self.recipe, self.spec = memory.recipe, memory.manifest.spec
        self.seed = _mix(memory.chosen.seed, len(memory.own), "training")
        self.data = TaskData(data.x.to(device), data.y.to(device), data.classes)
        self.steps = terms.steps or self.recipe.steps(len(data), len(data.classes))
        self.classifier_steps = min(self.recipe.classifier_steps, max(self.steps, FEWEST_CLASSIFIER_STEPS))
        self.heads = tuple(dict.fromkeys([*memory.manifest.classes, *data.classes]))

    def run(self) -> Learned:
        """Generator, quality, solver; then all that is worth keeping."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            real, held_out = split(self.data, HELD_OUT, torch.Generator().manual_seed(self.seed))
            blob, steps = self._generator(real)
            successor = self.memory.successor(blob)
            expert = successor.newest(self.data.classes)
            counts = tuple(torch.bincount(real.y, minlength=len(real.classes)).tolist())
            entry = ExpertEntry(expert.digest, self.data.classes, counts)
            quality = self._quality(expert, entry, held_out)
            solver = self._solver(real).pack()
        return Learned(
            TaskEntry(
                self.task,
                digest_of(blob),
                (entry,),
                quality,
                steps,
                round(self.clock.seconds, 3),
                {"usage": successor.ledger.usage(len(successor.own) - 1)},
            ),
            {"solver": digest_of(solver)},
            {digest_of(blob): blob, digest_of(solver): solver},
        )

    def _generator(self, real: TaskData) -> tuple[bytes, int]:
        widths = self.memory.grown()
        network, reserved = self.memory.fresh_network(widths, len(real.classes))
        x = real.x
        if not self.spec.is_image:
            mean, deviation = standardisation(x)
            x = (x - mean) / deviation
        network.to(self.device)
        g = MaskedGenerator(network, {n: r.to(self.device) for n, r in reserved.items()}, self.recipe.s_max)
        d = self.recipe.discriminator(self.spec, len(real.classes)).to(self.device)
        batches = BalancedBatches(x, real.y, len(real.classes))
        steps = train_generator(g, d, batches, self.recipe, self.memory.chosen.noise, self.steps, self.clock)
        if isinstance(network.out, Rescale):
            network.out.set(deviation, mean)
        return pack(self._tensors(g), {"kind": self.memory.kind, "task": self.task, "widths": widths}), steps

    def _tensors(self, g: MaskedGenerator) -> dict[str, Tensor]:
        masks = {name: m.cpu() for name, m in g.masks().items()}
        weights = {name: w.detach().cpu() for name, w in g.weights.items()}
        state = {f"own/{name}": t.cpu() for name, t in g.network.state_dict().items() if name not in masks}
        ledger = self.memory.ledger.copy()
        ledger.grow({name: tuple(m.shape) for name, m in masks.items()})
        return {**ledger.page(masks, weights).tensors(), **state}

    def _quality(self, expert: FrozenExpert, entry: ExpertEntry, held_out: TaskData) -> float:
        entries = [*(e for _, e in self.memory.manifest.experts()), entry]
        pools = self._replay(entries, lambda e: expert if e is entry else self.memory.expert(e.digest))
        quality = reverse_accuracy(
            self.spec, len(self.heads), pools, self._pool(held_out), self.classifier_steps, self._go_on("quality")
        )
        if self.terms.min_quality is not None and quality < self.terms.min_quality:
            raise QualityTooLow(
                f"task {self.task} reached a reverse accuracy of {quality:.3f}, below the required "
                f"{self.terms.min_quality:.3f}; give it more steps or seconds, more examples, or lower min_quality"
            )
        return quality

    def _solver(self, real: TaskData) -> ClassifierSolver:
        entries = [e for _, e in self.memory.manifest.experts()]
        pools = [self._pool(real), *self._replay(entries, lambda e: self.memory.expert(e.digest))]
        network = train_classifier(self.spec, len(self.heads), pools, self.classifier_steps, self._go_on("solver"))
        self.clock.tick("solver", self.classifier_steps, self.classifier_steps)
        return ClassifierSolver(self.spec, network.cpu(), self.heads)

    def _replay(self, entries: Sequence[ExpertEntry], load: Load) -> list[Pool]:
        source = torch.Generator().manual_seed(self.seed)
        return replay_pools(entries, load, self.heads, self.recipe.replay, self.spec, self.device, source)

    def _pool(self, data: TaskData) -> Pool:
        heads = torch.tensor([self.heads.index(label) for label in data.classes], device=data.y.device)
        return Pool(data.x, heads[data.y])

    def _go_on(self, phase: str) -> Callable[[int], bool]:
        def go_on(step: int) -> bool:
            self.clock.tick(phase, step, self.classifier_steps)
            return step < FEWEST_CLASSIFIER_STEPS or not self.clock.over(phase)

        return go_on


def _mix(*parts: object) -> int:
    """One 63-bit seed from several values, the same on every machine."""
    return int(digest_of(repr(parts).encode())[:15], 16)
