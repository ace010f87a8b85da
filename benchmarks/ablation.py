"""What each part of Dynamic Generative Memory is good for: one row per part that is taken away.

    python benchmarks/ablation.py [--seeds 2] [--steps 600] [--rows NAME ...]

Scikit-learn's handwritten digits (8 × 8), ten classes in five tasks of two, in process: this is about the method, not
about the server. Three measures per row, after the last task:

    accuracy      on held-out real digits of all classes, of a classifier trained on samples alone
    first task    the same for the classes of the first task
    drift         largest change of a pixel in [-1, 1] of the first task's samples since it was learned, same noise

Prints one Markdown table.
"""

import argparse
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dgm_core.checkpoints import NONE, Checkpoints
from dgm_core.experts import FrozenExpert, draw
from dgm_core.manifest import DataSpec, Label, Manifest
from dgm_core.masking.gates import soft_gate
from dgm_core.masking.gating import Gates, UnitGating
from dgm_core.masking.ledger import Ledger
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.memories.dgma import DGMa
from dgm_core.memories.dgmw import DGMw
from dgm_core.memories.masked import MaskedMemory
from dgm_core.memory import TaskData, Terms
from dgm_core.style.library import SHIPPED
from dgm_core.topology import Topology, spread
from dgm_core.training.classifying import Pool, accuracy, train_classifier
from dgm_core.training.clock import Clock
from memory_server.demo.datasets import Dataset, load, tasks_of

SPEC = DataSpec((1, 8, 8), "uint8")
CPU = torch.device("cpu")
PER_CLASS = 400
CLASSIFIER_STEPS = 300
PROBES = 64


class Live(MaskedMemory):
    """A memory whose old tasks are replayed through the weights as the newest task left them, reserved or not.

    With hard gates this changes nothing, since a task reads reserved weights alone; it is how the variants that read
    more than they reserve show what they forget.
    """

    live: ClassVar[dict[str, Tensor]]
    states: ClassVar[list[dict[str, Tensor]]]
    gates: ClassVar[list[Gates]]

    @classmethod
    def begin(cls) -> None:
        """Forgets earlier runs."""
        cls.live, cls.states, cls.gates = {}, [], []

    def train(
        self,
        real: TaskData,
        ledger: Ledger,
        steps: int,
        clock: Clock,
        device: torch.device,
        checkpoints: Checkpoints = NONE,
    ) -> Any:
        """Trains, and keeps what a committed memory does not."""
        g, trained = super().train(real, ledger, steps, clock, device, checkpoints)
        cls = type(self)
        cls.live = {name: w.detach().clone() for name, w in g.shared.items()}
        cls.states.append({k: t.detach().clone() for k, t in g.network.state_dict().items() if k not in g.shared})
        cls.gates.append(self.replayed_gates(g))
        return g, trained

    def replayed_gates(self, g: MaskedGenerator) -> Gates:
        """The gates that this task will be replayed through."""
        assert g.hard is not None
        return {name: gate.float() for name, gate in g.hard.items()}

    def state(self, index: int) -> Mapping[str, Tensor]:
        """What belongs to a task alone."""
        return type(self).states[index]

    def replayed(self, index: int, classes: tuple[Label, ...]) -> FrozenExpert:
        """The generator of a task, from the weights as they are now."""
        topology = self.topologies[index]
        network = self.architecture.generator(topology.widths, len(classes))
        corner = {c.name: tuple(slice(0, extent) for extent in c.shape) for c in topology.shared}
        weights = {c.name: type(self).live[c.name][corner[c.name]] for c in topology.shared}
        network.load_state_dict({**weights, **self.state(index)})
        every = {c.name: network.get_parameter(c.name).detach() for c in topology.connections}
        network.load_state_dict(self.gating.effective(topology, every, type(self).gates[index]), strict=False)
        return FrozenExpert(network.eval().folded(), classes, self.chosen.noise)


class SoftReplay(Live, DGMw):
    """Replays through σ(s_max·e) instead of the step: it reads weights that are reserved for nobody."""

    kind = "soft"

    def replayed_gates(self, g: MaskedGenerator) -> Gates:
        """The steepest soft gates."""
        return {name: soft_gate(e.detach(), g.s_max) for name, e in g.embeddings.items()}


class BeforeNorm(UnitGating):
    """Masks a unit before its norm, which undoes a soft gate and lets a closed one emit ReLU(β) unprotected."""

    def effective(self, topology: Topology, weights: Mapping[str, Tensor], gates: Gates) -> dict[str, Tensor]:
        """W with the rows of each unit that it writes scaled by the unit's gate."""
        return {
            c.name: weights[c.name] * spread(gates[topology.groups[c.writes]], c.out_axis, c)
            for c in topology.shared
            if c.writes is not None
        }


class MaskBeforeNorm(Live, DGMa):
    """Unit masks at the wrong side of the norm."""

    kind = "before-norm"
    gating = BeforeNorm()


class SharedNorm(Live, DGMw):
    """One set of norms for all tasks: the last one's."""

    kind = "shared-norm"

    def state(self, index: int) -> Mapping[str, Tensor]:
        """The task's own parameters, the norms those of the newest task."""
        own, newest = type(self).states[index], type(self).states[-1]
        return {name: newest[name][: len(t)] if name.startswith("norms.") and t.dim() else t for name, t in own.items()}


class NoExpansion(DGMw):
    """The network never grows."""

    kind = "no-expansion"

    def grown(self) -> Topology:
        """As it was before the first task."""
        return self.initial


def varied(base: type[MaskedMemory], name: str, **changes: Any) -> type[MaskedMemory]:
    """A kind whose recipe differs."""
    recipes = MappingProxyType({"fast": replace(base.recipes["fast"], **changes)})
    return type(name, (base,), {"kind": name, "recipes": recipes})


ROWS: dict[str, type[MaskedMemory]] = {
    "dgmw": DGMw,
    "dgmw, soft masks at replay": SoftReplay,
    "dgmw, shared norm": SharedNorm,
    "dgmw, no expansion": NoExpansion,
    "dgmw, no regulariser (λ_RU = 0)": varied(DGMw, "no-regulariser", reservation=0.0),
    "dgmw, no averaging (EMA off)": varied(DGMw, "no-ema", ema=0.0),
    "dgmw, float32 alone": varied(DGMw, "float32", half=False),
    "dgma": DGMa,
    "dgma, mask before norm": MaskBeforeNorm,
    "dgma, no regulariser (λ_RU = 0)": varied(DGMa, "no-regulariser-a", reservation=0.0),
    "dgma, float32 alone": varied(DGMa, "float32-a", half=False),
}


@dataclass(frozen=True)
class Outcome:
    """What one run gave: two accuracies in [0, 1], a drift in [0, 2], the generator's final size and bytes on disk."""

    accuracy: float
    first: float
    drift: float
    parameters: int
    nbytes: int


def main() -> None:
    """Runs the rows and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="runs per row")
    parser.add_argument("--steps", type=int, default=600, help="training steps of the generator per task")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="NAME")
    wish = parser.parse_args()
    started = time.monotonic()
    print("| row | accuracy | first task | drift | weights of G | bytes of all tasks |\n|---|---|---|---|---|---|")
    for row in wish.rows:
        runs = [run(ROWS[row], seed, wish.steps) for seed in range(wish.seeds)]
        scores = [f"{100 * np.mean(each):.1f} %" for each in ([r.accuracy for r in runs], [r.first for r in runs])]
        drift = max(r.drift for r in runs)
        size, nbytes = (round(np.mean(each)) for each in ([r.parameters for r in runs], [r.nbytes for r in runs]))
        print(f"| {row} | {scores[0]} | {scores[1]} | {drift:.4f} | {size} | {nbytes} |", flush=True)
    print(
        f"\nMeans over {wish.seeds} seeds (drift: the largest), {wish.steps} steps a task; "
        f"{time.monotonic() - started:.0f} s, {os.cpu_count()} cores of {platform.machine()}, torch {torch.__version__}"
    )


def run(kind: type[MaskedMemory], seed: int, steps: int) -> Outcome:
    """Learns the five tasks and looks at what is left of them."""
    data = load("digits", None, seed)
    manifest = Manifest(kind.kind, kind.options({"seed": str(seed)}, SPEC, SHIPPED), SPEC)
    blobs: dict[str, bytes] = {}
    if issubclass(kind, Live):
        kind.begin()
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(PROBES, int(manifest.options["noise"]), generator=source)
    c = torch.arange(PROBES) % 2
    for index, classes in enumerate(tasks_of()):
        memory = kind(manifest, blobs)
        learned = memory.learn(
            _task(data, classes), task=f"t{index}", terms=Terms(steps=steps), report=lambda _: None, device=CPU
        )
        manifest, blobs = manifest.commit(learned), blobs | dict(learned.blobs)
        if index == 0:
            at_first = _expert(kind(manifest, blobs), 0, classes).generate(z, c)
    memory = kind(manifest, blobs)
    experts = [_expert(memory, index, classes) for index, classes in enumerate(tasks_of())]
    drift = float((experts[0].generate(z, c) - at_first).abs().max())
    classifier = _classifier(experts, source)
    test = _pool(data, manifest.classes)
    sizes = [len(blobs[task.blob]) for task in manifest.tasks]
    return Outcome(
        accuracy(classifier, test),
        accuracy(classifier, _pool(data, tasks_of()[0])),
        drift,
        memory.topologies[-1].parameters,
        sum(sizes),
    )


def _expert(memory: MaskedMemory, index: int, classes: tuple[int, ...]) -> FrozenExpert:
    return memory.replayed(index, classes) if isinstance(memory, Live) else memory.materialised(index, classes)


def _classifier(experts: list[FrozenExpert], source: torch.Generator) -> Any:
    pools = [
        Pool(draw(expert, label, PER_CLASS, SPEC, CPU, source), torch.full((PER_CLASS,), int(label)))
        for expert in experts
        for label in expert.classes
    ]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return train_classifier(SPEC, len(pools), pools, CLASSIFIER_STEPS, lambda taken: taken)


def _task(data: Dataset, classes: tuple[int, ...]) -> TaskData:
    part = data.train.of(classes)
    return TaskData(torch.from_numpy(part.x), torch.from_numpy(np.searchsorted(classes, part.y)), classes)


def _pool(data: Dataset, classes: Sequence[Any]) -> Pool:
    part = data.test.of(tuple(classes))
    return Pool(torch.from_numpy(part.x), torch.from_numpy(part.y))


if __name__ == "__main__":
    main()
