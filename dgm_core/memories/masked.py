"""What Dynamic Generative Memories have in common; not a kind itself.

A task learns gates over the shared weights, its own norms and output layer. Its blob is the page that it wrote into the
ledger of shared weights and those parameters of its own; its expert is derived from blobs alone, when it is learned as
well as whenever it is loaded, so that there is only one way to the bytes that are sampled.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from dgm_core.analysis import Analysis
from dgm_core.blobs import pack, unpack
from dgm_core.checkpoints import NONE, Checkpoints
from dgm_core.experts import FrozenExpert
from dgm_core.manifest import Blobs, DataSpec, Label, Manifest
from dgm_core.masking.gating import Gating
from dgm_core.masking.ledger import Ledger, Page
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.memories.taught import TaughtMemory, mix
from dgm_core.memory import Bases, TaskData, Terms
from dgm_core.networks import AUTOMATIC, architecture_of
from dgm_core.networks.architecture import Embedded
from dgm_core.options import Options
from dgm_core.topology import Topology
from dgm_core.training.adversarial import train_generator
from dgm_core.training.batches import BalancedBatches, standardisation
from dgm_core.training.clock import Clock
from dgm_core.training.devices import placed
from dgm_core.training.running import Trained
from dgm_core.training.trainees import Masked


@dataclass(frozen=True)
class MaskedOptions(Options):
    """Options of a Dynamic Generative Memory; the seed initialises free weights, too.

    Arguments:
        network: name of an architecture; "auto" is dcgan for images and a chain of linear layers for vectors.
        width: f of the generator's widths; 0 takes the recipe's.
        noise: length of z; 0 takes the recipe's.
    """

    network: str = AUTOMATIC
    width: int = 0
    noise: int = 0

    def validate(self) -> None:
        """See `Options.validate`."""
        self.require_range("width", 0, 512)
        self.require_range("noise", 0, 1024)


class MaskedMemory(TaughtMemory):
    """A generator of growing shared weights with gates per task  [DGM eq. 1].

    Attributes:
        gating: what a gate selects.
    """

    gating: ClassVar[Gating]
    parsed: ClassVar[type[MaskedOptions]] = MaskedOptions
    chosen: MaskedOptions

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
        self.architecture = architecture_of(self.chosen.network, manifest.spec, self.chosen.noise)
        self.initial = self.architecture.topology(self.architecture.initial_widths(self.chosen.width))
        self.ledger = Ledger(self.gating)
        self.topologies: list[Topology] = []
        self.own: list[dict[str, Tensor]] = []
        for task in manifest.tasks:
            self.append(blobs[task.blob], task.task)

    def seed_of(self, task: str) -> int:  # noqa: ARG002 - tasks stand on each other: their order is what counts
        """From the memory's seed and the number of tasks that are learned."""
        return mix(self.chosen.seed, len(self.own), "training")

    def trained(
        self,
        real: TaskData,
        task: str,
        terms: Terms,  # noqa: ARG002 - what is forbidden follows from the terms of the earlier tasks
        steps: int,
        clock: Clock,
        device: torch.device,
        checkpoints: Checkpoints,
    ) -> tuple[bytes, Trained]:
        """See `TaughtMemory.trained`."""
        ledger = self.ledger.copy()
        g, trained = self.train(real, ledger, steps, clock, device, checkpoints)
        return self._blob(g, ledger, task), trained

    def grown(self) -> Topology:
        """Topology for the next task: free capacity is what it was before the first  [DGM sec. 3.2]."""
        if not self.topologies:
            return self.initial
        last = self.topologies[-1]
        return self.initial.at(self.gating.expanded(self.initial, last, self.ledger.claimed))

    def fresh_network(self, topology: Topology, ledger: Ledger, classes: int) -> Embedded:
        """A generator for the next task: reserved weights are in place, free ones are new.

        Free weights are initialised from (memory seed, task index), whatever earlier tasks left in them.

        Arguments:
            ledger: grown to `topology`.
        """
        network = self.architecture.generator(topology.widths, classes)
        source = torch.Generator().manual_seed(mix(self.chosen.seed, len(self.own)))
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

    def analysis(self, trained: Trained, blob: bytes) -> Analysis:
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

    def train(
        self,
        real: TaskData,
        ledger: Ledger,
        steps: int,
        clock: Clock,
        device: torch.device,
        checkpoints: Checkpoints = NONE,
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
        trainee, noise = Masked(g, self.recipe), self.chosen.noise
        trained = train_generator(trainee, d, batches, self.recipe, noise, steps, clock, checkpoints)
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

    def append(self, blob: bytes, task: str) -> None:  # noqa: ARG002 - its place among the tasks is what counts
        """See `TaughtMemory.append`."""
        tensors, about = unpack(blob)
        topology = self.initial.at(about["widths"])
        self.topologies.append(topology)
        self.ledger.append(Page.from_tensors(tensors, self.gating.shapes(topology)), topology)
        self.own.append({k.removeprefix("own/"): t for k, t in tensors.items() if k.startswith("own/")})
