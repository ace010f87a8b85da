"""The ledger of shared weights: which entry was written by which task, and which tasks read it.

A task adds one page: its hard gates, and the values of the entries that it newly reserved. Nothing else is stored; free
entries are initialised anew for every task. Pages are only ever appended, so that the effective weights of an old task
are the same bits for ever (invariant I1). A ledger without the page of a task whose entries no later task reads is
consistent, too: that is what makes erasure exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from dgm_core.analysis import LayerUse
from dgm_core.masking.gating import Gates, Gating
from dgm_core.topology import Topology


@dataclass(frozen=True)
class Page:
    """What one task wrote.

    Arguments:
        gates: the task's hard gates by layer, boolean, in the shapes of its time.
        values: newly reserved entries by weight name, float32, in row-major order.
    """

    gates: Gates
    values: Mapping[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """For a file: gates packed to bits as uint8, and values."""
        packed = {f"gates/{name}": torch.from_numpy(np.packbits(g.cpu().numpy())) for name, g in self.gates.items()}
        return packed | {f"values/{name}": values.cpu().contiguous() for name, values in self.values.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> "Page":
        """The inverse of `tensors`, for gates of the given shapes; other entries are ignored."""
        gates = {name: _unpack(tensors[f"gates/{name}"], shape) for name, shape in shapes.items()}
        prefix = "values/"
        values = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        return cls(gates, values)


class Ledger:
    """Shared weights W and the union of all gates, rebuilt from the pages of all tasks so far.

    Arguments:
        gating: what a gate selects.

    Attributes:
        topology: of the weights, None while there are none.
        weights: W by name.
        claimed: the union of all tasks' gates, by layer.
        pages: per task.
        owned: per task: the gates that it was the first to claim.
    """

    def __init__(self, gating: Gating) -> None:
        self.gating = gating
        self.topology: Topology | None = None
        self.weights: dict[str, Tensor] = {}
        self.claimed: dict[str, Tensor] = {}
        self.pages: list[Page] = []
        self.owned: list[Gates] = []
        self._topologies: list[Topology] = []

    def copy(self) -> "Ledger":
        """A ledger of its own with the same pages."""
        ledger = Ledger(self.gating)
        for page, topology in zip(self.pages, self._topologies, strict=True):
            ledger.append(page, topology)
        return ledger

    def append(self, page: Page, topology: Topology) -> None:
        """Takes one more task in; the weights grow to its topology first."""
        self.grow(topology)
        masks = self.gating.masks(topology, page.gates)
        reserved = self.reserved
        for name, mask in masks.items():
            self.weights[name][mask & ~reserved[name]] = page.values[name]
        self.owned.append({name: gates & ~self.claimed[name] for name, gates in page.gates.items()})
        for name, gates in page.gates.items():
            self.claimed[name] |= gates  # m^{≤t} = max(m^t, m^{<t})  [DGM eq. 5]
        self.pages.append(page)
        self._topologies.append(topology)

    def grow(self, topology: Topology) -> None:
        """Enlarges weights and claims; old entries keep their places in the leading corner."""
        self.topology = topology
        for c in topology.shared:
            self.weights[c.name] = _enlarged(self.weights.get(c.name, torch.empty(0)), c.shape)
        for name, shape in self.gating.shapes(topology).items():
            self.claimed[name] = _enlarged(self.claimed.get(name, torch.empty(0, dtype=torch.bool)), shape)

    @property
    def reserved(self) -> dict[str, Tensor]:
        """Entries of W that must never change, by weight name: m^{≤t}  [DGM eq. 5]."""
        return {} if self.topology is None else self.gating.masks(self.topology, self.claimed)

    def page(self, gates: Gates, weights: Mapping[str, Tensor]) -> Page:
        """The page that a task writes: its gates, and what they newly reserve. The ledger has its topology already."""
        assert self.topology is not None
        reserved = self.reserved
        masks = self.gating.masks(self.topology, gates)
        return Page(gates, {name: weights[name].detach()[mask & ~reserved[name]] for name, mask in masks.items()})

    def effective(self, index: int) -> dict[str, Tensor]:
        """The shared weights that the task `index` reads, and 0 elsewhere, in the shapes of its time  [DGM eq. 1]."""
        masks = self.gating.masks(self._topologies[index], self.pages[index].gates)
        return {
            name: torch.where(mask, self.weights[name][_corner(tuple(mask.shape))], 0.0) for name, mask in masks.items()
        }

    def owned_by(self, indices: list[int]) -> dict[str, Tensor]:
        """The gates that some tasks were the first to claim, in the present shapes."""
        union = {name: torch.zeros_like(claimed) for name, claimed in self.claimed.items()}
        for index in indices:
            for name, gates in self.owned[index].items():
                union[name][_corner(tuple(gates.shape))] |= gates
        return union

    def reused_by(self, gates: Gates) -> list[int]:
        """The tasks whose own gates are among these."""
        return [index for index, owned in enumerate(self.owned) if _overlap(gates, owned)]

    def usage(self, index: int) -> dict[str, LayerUse]:
        """Per layer of a task: gates at its time, newly reserved, reused, and free after it."""
        claimed = self.owned_by(list(range(index + 1)))
        usage: dict[str, LayerUse] = {}
        for name, gates in self.pages[index].gates.items():
            reserved, used = int(self.owned[index][name].sum()), int(gates.sum())
            taken = int(claimed[name][_corner(tuple(gates.shape))].sum())
            usage[name] = {
                "size": gates.numel(),
                "reserved": reserved,
                "reused": used - reserved,
                "free": gates.numel() - taken,
            }
        return usage


def _overlap(gates: Gates, owned: Gates) -> bool:
    return any(bool((gates[name][_corner(tuple(own.shape))] & own).any()) for name, own in owned.items())


def _unpack(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    flat = np.unpackbits(bits.numpy(), count=prod(shape))
    return torch.from_numpy(flat.astype(bool)).reshape(shape)


def _enlarged(old: Tensor, shape: tuple[int, ...]) -> Tensor:
    new = torch.zeros(shape, dtype=old.dtype)
    if old.numel():
        new[_corner(tuple(old.shape))] = old
    return new


def _corner(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, extent) for extent in shape)
