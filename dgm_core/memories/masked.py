"""What Dynamic Generative Memories have in common; not a kind itself.

A task learns gates over the shared weights, its own norms and output layer. Its blob is the page that it wrote into the
ledger of shared weights and those parameters of its own; its expert is derived from blobs alone, when it is learned as
well as whenever it is loaded, so that there is only one way to the bytes that are sampled.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from dgm_core.blobs import digest as digest_of
from dgm_core.blobs import pack, unpack
from dgm_core.experts import FrozenExpert
from dgm_core.lesson import FEWEST_STEPS, Lesson
from dgm_core.masking.gating import Gating
from dgm_core.masking.ledger import Ledger, Page
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.memory import (
    Bases,
    Blobs,
    CannotLearn,
    DataSpec,
    Expert,
    ExpertEntry,
    GenerativeMemory,
    Label,
    Learned,
    Manifest,
    Report,
    Shared,
    TaskData,
    TaskEntry,
    Terms,
)
from dgm_core.networks import AUTOMATIC, architecture_of
from dgm_core.networks.architecture import Generator
from dgm_core.replay import Load
from dgm_core.solvers import ClassifierSolver
from dgm_core.topology import Topology
from dgm_core.training.adversarial import Trained, train_generator
from dgm_core.training.batches import BalancedBatches, split, standardisation
from dgm_core.training.clock import Clock, limit_of
from dgm_core.training.devices import placed
from dgm_core.training.recipes import Recipe
from dgm_core.training.trainees import Masked

HELD_OUT = 0.1
FEWEST_EXAMPLES = 8


@dataclass(frozen=True)
class Options:
    """What a user may choose about a memory; it holds for all its tasks.

    Arguments:
        seed: initialises free weights and drives training.
        recipe: "fast" or "paper".
        network: "dcgan" or "residual"; "auto" is dcgan for images and a chain of linear layers for vectors.
        width: f of the generator's widths; 0 takes the recipe's.
        noise: length of z; 0 takes the recipe's.
    """

    seed: int
    recipe: str = "fast"
    network: str = AUTOMATIC
    width: int = 0
    noise: int = 0

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
        for name, low, high in (("width", 0, 512), ("noise", 0, 1024), ("seed", 0, 2**63 - 1)):
            if not low <= getattr(self, name) <= high:
                raise CannotLearn(f"options.{name}", f"{name} is {getattr(self, name)}; it must be {low} to {high}")
        return self


class MaskedMemory(GenerativeMemory):
    """A generator of growing shared weights with gates per task  [DGM eq. 1].

    Attributes:
        gating: what a gate selects.
        recipes: how a task is trained, by name.
    """

    gating: ClassVar[Gating]
    recipes: ClassVar[Mapping[str, Recipe]]

    @classmethod
    def options(cls, given: Mapping[str, str], spec: DataSpec, bases: Bases) -> dict[str, str]:  # noqa: ARG003
        """All options as text, defaults included."""
        options = Options.parse(given)
        recipe = cls._recipe(options.recipe)
        complete = replace(options, width=options.width or recipe.width, noise=options.noise or recipe.noise)
        architecture_of(complete.network, spec, complete.noise)  # is refused if it does not suit such data
        return {name: str(value) for name, value in asdict(complete).items()}

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        self.manifest, self.blobs = manifest, blobs
        self.chosen = Options.parse(manifest.options)
        self.recipe = self._recipe(self.chosen.recipe)
        self.architecture = architecture_of(self.chosen.network, manifest.spec, self.chosen.noise)
        self.initial = self.architecture.topology(self.architecture.initial_widths(self.chosen.width))
        self.ledger = Ledger(self.gating)
        self.topologies: list[Topology] = []
        self.own: list[dict[str, Tensor]] = []
        for task in manifest.tasks:
            self._append(blobs[task.blob])

    def expert(self, digest: str) -> Expert:
        """Materialises one expert of the manifest, on the CPU."""
        for index, task in enumerate(self.manifest.tasks):
            for entry in task.experts:
                if entry.digest == digest:
                    return self._verified(self.materialised(index, entry.classes), task.task, digest)
        raise KeyError(f"no expert of this revision has the digest {digest}")

    def solver(self) -> ClassifierSolver:
        """The task solver of this revision."""
        return ClassifierSolver.unpack(self.manifest.spec, self.blobs[self.manifest.shared["solver"]])

    def learn(self, data: TaskData, *, task: str, terms: Terms, report: Report, device: torch.device) -> Learned:
        """Trains on one task and returns what must be kept of it."""
        self._check(data)
        clock = Clock(report, limit_of(terms.seconds, self.recipe.seconds))
        data = TaskData(data.x.to(device), data.y.to(device), data.classes)
        seed = _mix(self.chosen.seed, len(self.own), "training")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            real, held_out = split(data, HELD_OUT, torch.Generator().manual_seed(seed))
            steps = terms.steps or self.recipe.steps(len(data), len(data.classes))
            ledger = self.ledger.copy()
            g, trained = self.train(real, ledger, steps, clock, device)
            blob = self._blob(g, ledger, task)
            successor = self._successor(blob)
            expert = successor.materialised(len(self.own), data.classes)
            counts = tuple(torch.bincount(real.y, minlength=len(real.classes)).tolist())
            entry = ExpertEntry(expert.digest, data.classes, counts)
            earlier = [each for _, each in self.manifest.experts()]
            heads = tuple(dict.fromkeys([*self.manifest.classes, *data.classes]))
            lesson = self._lesson(
                heads, lambda e: expert if e is entry else self.expert(e.digest), steps, seed, clock, device
            )
            quality = lesson.quality([*earlier, entry], held_out, terms.min_quality)
            solver = lesson.solver(earlier, real).pack()
        learned = TaskEntry(
            task=task,
            blob=digest_of(blob),
            experts=(entry,),
            quality=quality,
            steps=trained.steps,
            seconds=round(clock.seconds, 3),
            erasable=terms.erasable,
            reuses=successor.reuses(),
            analysis=successor.analysis(trained, blob),
        )
        return Learned(
            learned,
            {"solver": digest_of(solver)},
            {digest_of(blob): blob, digest_of(solver): solver},
            self.manifest.revision,
        )

    def restore(self, *, report: Report, device: torch.device) -> Shared:
        """Trains the solver anew, on samples of every task that is left."""
        seed = _mix(self.chosen.seed, self.manifest.revision, "restoring")
        clock = Clock(report, self.recipe.seconds, {"solver": 1.0})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            lesson = self._lesson(
                self.manifest.classes,
                lambda e: self.expert(e.digest),
                self.recipe.classifier_steps,
                seed,
                clock,
                device,
            )
            solver = lesson.solver([each for _, each in self.manifest.experts()]).pack()
        return Shared({"solver": digest_of(solver)}, {digest_of(solver): solver})

    def grown(self) -> Topology:
        """Topology for the next task: free capacity is what it was before the first  [DGM sec. 3.2]."""
        if not self.topologies:
            return self.initial
        last = self.topologies[-1]
        return self.initial.at(self.gating.expanded(self.initial, last, self.ledger.claimed))

    def fresh_network(self, topology: Topology, ledger: Ledger, classes: int) -> Generator:
        """A generator for the next task: reserved weights are in place, free ones are new.

        Free weights are initialised from (memory seed, task index), whatever earlier tasks left in them.

        Arguments:
            ledger: grown to `topology`.
        """
        network = self.architecture.generator(topology.widths, classes)
        source = torch.Generator().manual_seed(_mix(self.chosen.seed, len(self.own)))
        reserved = ledger.reserved
        with torch.no_grad():
            for c in topology.shared:
                free = torch.randn(c.shape, generator=source) * self.architecture.initial_std(c)
                network.get_parameter(c.name).copy_(torch.where(reserved[c.name], ledger.weights[c.name], free))
        return network

    def materialised(self, index: int, classes: tuple[Label, ...]) -> FrozenExpert:
        """The expert of one task: its effective weights in a plain generator."""
        network = self.architecture.generator(self.topologies[index].widths, len(classes))
        network.load_state_dict({**self.ledger.effective(index), **self.own[index]})
        return FrozenExpert(network.eval().folded(), classes, self.chosen.noise)

    def reuses(self) -> tuple[str, ...]:
        """The tasks of the manifest whose reserved gates the newest task reads, which is not in the manifest yet."""
        names = [task.task for task in self.manifest.tasks]
        return tuple(names[index] for index in self.ledger.reused_by(self.ledger.pages[-1].gates) if index < len(names))

    def analysis(self, trained: Trained, blob: bytes) -> dict[str, Any]:
        """How the newest task uses the shared weights, how its gates came about and what it takes on disk."""
        index = len(self.own) - 1
        tensors = self.ledger.pages[index].tensors()
        weights = sum(t.nbytes for name, t in tensors.items() if name.startswith("values/"))
        masks = sum(t.nbytes for name, t in tensors.items() if name.startswith("gates/"))
        usage = self.ledger.usage(index)
        return {
            "gate": self.gating.selects,
            "order": list(usage),
            "layers": usage,
            "trajectory": trained.trajectory,
            "parameters": self.topologies[index].parameters,
            "worst_case": self.gating.worst_case(self.initial, index + 1),
            "bytes": {"weights": weights, "masks": masks, "own": len(blob) - weights - masks},
        }

    @classmethod
    def _recipe(cls, name: str) -> Recipe:
        try:
            return cls.recipes[name]
        except KeyError:
            raise CannotLearn(
                "options.recipe", f"there is no recipe {name!r}; the recipes are {', '.join(cls.recipes)}"
            ) from None

    def train(
        self, real: TaskData, ledger: Ledger, steps: int, clock: Clock, device: torch.device
    ) -> tuple[MaskedGenerator, Trained]:
        """Trains the generator of the next task, with hard gates and settled at the end.

        Arguments:
            ledger: of the earlier tasks; is grown to the topology of this one.
        """
        topology = self.grown()
        ledger.grow(topology)
        network = self.fresh_network(topology, ledger, len(real.classes))
        placed(network, device)
        x = real.x
        if not self.manifest.spec.is_image:
            mean, deviation = standardisation(x)
            x = (x - mean) / deviation
        g = MaskedGenerator(network, topology, ledger, self._forbidden(ledger), self.recipe.s_max, device)
        d = self.architecture.discriminator(len(real.classes), self.recipe.kernel)
        placed(d, device)
        batches = BalancedBatches(x, real.y, len(real.classes))
        trained = train_generator(Masked(g, self.recipe), d, batches, self.recipe, self.chosen.noise, steps, clock)
        if not self.manifest.spec.is_image:
            network.rescale(deviation, mean)
        return g, trained

    def _blob(self, g: MaskedGenerator, ledger: Ledger, task: str) -> bytes:
        """What is kept of a generator: its page of the ledger, and what belongs to the task alone."""
        assert g.hard is not None
        weights, own = g.committed()
        page = ledger.page({name: gates.cpu() for name, gates in g.hard.items()}, weights)
        tensors = page.tensors() | {f"own/{name}": t for name, t in own.items()}
        return pack(tensors, {"kind": self.kind, "task": task, "widths": g.topology.widths})

    def _forbidden(self, ledger: Ledger) -> dict[str, Tensor]:
        """Gates that no later task may open, because the tasks that reserved them must stay erasable."""
        return ledger.owned_by([index for index, task in enumerate(self.manifest.tasks) if task.erasable])

    def _lesson(
        self, heads: tuple[Label, ...], load: Load, steps: int, seed: int, clock: Clock, device: torch.device
    ) -> Lesson:
        steps = min(self.recipe.classifier_steps, max(steps, FEWEST_STEPS))
        return Lesson(self.manifest.spec, heads, load, steps, self.recipe.replay, seed, clock, device)

    def _successor(self, blob: bytes) -> Self:
        """This memory with one more task blob, not yet in any manifest."""
        memory = type(self)(self.manifest, self.blobs)
        memory._append(blob)
        return memory

    def _append(self, blob: bytes) -> None:
        tensors, about = unpack(blob)
        topology = self.initial.at(about["widths"])
        self.topologies.append(topology)
        self.ledger.append(Page.from_tensors(tensors, self.gating.shapes(topology)), topology)
        self.own.append({k.removeprefix("own/"): t for k, t in tensors.items() if k.startswith("own/")})

    def _verified(self, expert: FrozenExpert, task: str, digest: str) -> FrozenExpert:
        if expert.digest != digest:
            raise ValueError(
                f"the expert of task {task} has the digest {expert.digest}, but the catalog says {digest}: "
                "a blob was changed, or this version compiles experts, or its torch computes, differently from the one "
                "that learned it: go back to that version"
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


def _mix(*parts: object) -> int:
    """One 63-bit seed from several values, the same on every machine."""
    return int(digest_of(repr(parts).encode())[:15], 16)
