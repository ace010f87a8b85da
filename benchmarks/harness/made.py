"""Memories that nobody taught: random weights where training leaves such, so that a benchmark need not train first.

What a generator costs depends on its shape and, for masked ones, on how dense its masks are; not on what it learned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dgm_core.blobs import digest, pack
from dgm_core.manifest import Blobs, DataSpec, ExpertEntry, Manifest, TaskEntry
from dgm_core.memories import load_memory, new_manifest
from dgm_core.memories.masked import MaskedMemory
from dgm_core.memories.taught import TaughtMemory
from dgm_core.networks.classifiers import Classifier
from dgm_core.solvers import ClassifierSolver
from dgm_core.style.base import Base
from dgm_core.style.foundation import COLUMNS, Style
from dgm_core.style.library import Library
from dgm_core.training.bases import design_of
from memory_server.store.datadir import DataDir

DENSITIES = {"dgmw": (0.2, 0.5, 0.5), "dgma": (0.3, 0.5, 0.7)}
"""Shares of gates that are open, input side first, as training leaves them."""

NOISE = 64
SPREAD = 0.1
"""By what share of themselves the styles of tasks differ."""


@dataclass(frozen=True)
class Made:
    """A memory as a server stores it."""

    manifest: Manifest
    blobs: Blobs = field(repr=False)

    def loaded(self) -> TaughtMemory:
        """The memory itself."""
        memory = load_memory(self.manifest, self.blobs)
        assert isinstance(memory, TaughtMemory)
        return memory

    def store(self, data_dir: Path, name: str) -> None:
        """Puts it into a data directory, which a server may then open, as its newest and only revision."""
        with DataDir(data_dir) as store:
            store.create_memory(name, self.manifest, self.blobs)


def styled(spec: DataSpec, width: int, tasks: int, seed: int = 0) -> Made:
    """Tasks t0, t1, … of one class each, 0, 1, …, in random styles on a random base: experts of one shape.

    Arguments:
        spec: of the images.
        width: f of the generator's widths; 6 gives 24-12-6 for images of 32 × 32, 64 gives 256-128-64.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base = _base(spec, width)
        empty = new_manifest("gan_memory", {"base": base.digest}, spec, seed, Library(own=base))
        foundation = Made(empty, {base.digest: base.blob}).loaded().foundation  # type: ignore[attr-defined]
        pages = [_style_blob(foundation.style, f"t{index}") for index in range(tasks)]
    return _complete(empty, {base.digest: base.blob}, pages, classes_each=1)


def masked(kind: str, spec: DataSpec, tasks: int, classes_each: int = 2) -> Made:
    """Tasks t0, t1, … of some classes each, with random gates; the memory grows with them as it would.

    Arguments:
        kind: "dgmw" or "dgma".
        classes_each: classes of a task; those of the first are 0, 1, …
    """
    manifest = new_manifest(kind, {}, spec, seed=0)
    memory, pages = _masked(manifest, {}), []
    for index in range(tasks):
        pages.append(_masked_blob(memory, classes_each))
        memory.append(pages[-1], f"t{index}")
    return _complete(manifest, {}, pages, classes_each)


def _complete(empty: Manifest, foundation: Blobs, pages: list[bytes], classes_each: int) -> Made:
    """The memory whose tasks are these blobs, with the digests of its experts and a solver that was not trained."""
    labels = [tuple(range(i * classes_each, (i + 1) * classes_each)) for i in range(len(pages))]
    unnamed = [_entry(f"t{i}", page, ()) for i, page in enumerate(pages)]
    blobs = {**foundation, **{digest(page): page for page in pages}}
    memory = Made(replace(empty, tasks=tuple(unnamed)), blobs).loaded()
    named = [
        _entry(f"t{i}", page, (ExpertEntry(memory.materialised(i, own).digest, own, (1,) * len(own)),))
        for i, (page, own) in enumerate(zip(pages, labels, strict=True))
    ]
    solver = ClassifierSolver(empty.spec, Classifier(empty.spec, len(sum(labels, ()))), sum(labels, ())).pack()
    shared = {"solver": digest(solver)}
    return Made(replace(empty, tasks=tuple(named), shared=shared), {**blobs, digest(solver): solver})


def _entry(task: str, page: bytes, experts: tuple[ExpertEntry, ...]) -> TaskEntry:
    return TaskEntry(task=task, blob=digest(page), experts=experts, quality=1.0, steps=0, seconds=0.0)


def _base(spec: DataSpec, width: int) -> Base:
    design = design_of(spec, "dcgan", width, NOISE)
    network = design.generator(spec, 1)
    _settle(network, NOISE, 1)
    return Base.of("made", design, network, design.discriminator(spec, 1), {})


def _style_blob(start: Style, task: str) -> bytes:
    style = {name: t * (1 + SPREAD * torch.randn_like(t)) if t.is_floating_point() else t for name, t in start.items()}
    style[COLUMNS] = start[COLUMNS] + SPREAD * start[COLUMNS].std() * torch.randn_like(start[COLUMNS])
    return pack(style, {"kind": "gan_memory", "task": task, "start": None, "shares": False})


def _masked(manifest: Manifest, blobs: Blobs) -> MaskedMemory:
    memory = Made(manifest, blobs).loaded()
    assert isinstance(memory, MaskedMemory)
    return memory


def _masked_blob(memory: MaskedMemory, classes: int) -> bytes:
    """The blob of one more task: random gates, random weights wherever they are free, norms that have seen a batch."""
    topology, ledger = memory.grown(), memory.ledger.copy()
    ledger.grow(topology)
    network = memory.fresh_network(topology, ledger, classes)
    _settle(network, memory.chosen.noise, classes)
    source = torch.Generator().manual_seed(len(memory.own))
    shapes, densities = memory.gating.shapes(topology), DENSITIES[memory.kind]
    gates = {
        name: torch.rand(shape, generator=source) < density
        for (name, shape), density in zip(shapes.items(), densities, strict=True)
    }
    state = {name: t.detach() for name, t in network.state_dict().items()}
    weights = {c.name: state.pop(c.name) for c in topology.shared}
    page = ledger.page(gates, weights)
    gated = memory.gating.effective(topology, weights | state, gates)
    own = {name: gated.get(name, t) for name, t in state.items()}
    tensors: Mapping[str, Tensor] = page.tensors() | {f"own/{name}": t for name, t in own.items()}
    return pack(tensors, {"kind": memory.kind, "task": f"t{len(memory.own)}", "widths": topology.widths})


@torch.no_grad()
def _settle(network: nn.Module, noise: int, classes: int) -> None:
    """Has the norms see a batch, so that activities are of the size that they have in a trained generator."""
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            norm.momentum = 1.0
    network.train()(torch.randn(256, noise), torch.arange(256) % classes)
    network.eval()
