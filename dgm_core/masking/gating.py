"""What a mask selects: single weights (DGMw) or whole units (DGMa). All that differs between the two is here.

A task learns one gate per weight or per unit. From its gates follow the effective weights that it trains and is sampled
with, the entries of the shared weights that it reads (its masks), and how the network grows after it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from dgm_core.masking.expansion import expanded_widths
from dgm_core.topology import Topology, spread

Gates = Mapping[str, Tensor]
"""Layer name -> gates of that layer: soft ones are float in (0, 1), hard ones boolean."""


class Gating(ABC):
    """Gates and what follows from them.

    Attributes:
        selects: what one gate stands for.
        local: whether the slope is annealed within each epoch too  [DGM eq. 4].
    """

    selects: Literal["weight", "unit"]
    local: bool

    @abstractmethod
    def shapes(self, topology: Topology) -> dict[str, tuple[int, ...]]:
        """Shape of the gates of each layer, input side first."""

    @abstractmethod
    def effective(self, topology: Topology, weights: Mapping[str, Tensor], gates: Gates) -> dict[str, Tensor]:
        """The weights that gates act on, with the gates applied  [DGM eq. 1]."""

    @abstractmethod
    def masks(self, topology: Topology, gates: Gates) -> dict[str, Tensor]:
        """Entries of the shared weights that a task with these hard gates reads: boolean, by weight name."""

    @abstractmethod
    def expanded(self, initial: Topology, last: Topology, reserved: Gates) -> tuple[int, ...]:
        """Widths at which the free capacity is that of `initial` again  [DGM sec. 3.2].

        Arguments:
            initial: before the first task.
            last: of the last task.
            reserved: gates that tasks have reserved, in the shapes of `last`.
        """

    @abstractmethod
    def worst_case(self, initial: Topology, tasks: int) -> int:
        """Shared weights after expansions for `tasks` − 1 tasks that each reserved all that was free."""


class WeightGating(Gating):
    """DGMw: a gate per weight, m has the shape of W."""

    selects = "weight"
    local = True

    def shapes(self, topology: Topology) -> dict[str, tuple[int, ...]]:
        """Those of the shared weights."""
        return {c.name: c.shape for c in topology.shared}

    def effective(self, topology: Topology, weights: Mapping[str, Tensor], gates: Gates) -> dict[str, Tensor]:
        """m∘W  [DGM eq. 1]."""
        return {c.name: gates[c.name] * weights[c.name] for c in topology.shared}

    def masks(self, topology: Topology, gates: Gates) -> dict[str, Tensor]:
        """The gates themselves."""
        return {c.name: gates[c.name] for c in topology.shared}

    def expanded(self, initial: Topology, last: Topology, reserved: Gates) -> tuple[int, ...]:
        """Every layer gets ⌈δ/n⌉ units  [DGM sec. 3.2]."""
        return expanded_widths(initial, last, {name: int(taken.sum()) for name, taken in reserved.items()})

    def worst_case(self, initial: Topology, tasks: int) -> int:
        """Linear in a chain, where each task takes the weights that there were before the first.

        More in residual networks: what grows at both ends has more free weights than it needs.
        """
        last = initial
        for _ in range(tasks - 1):
            last = initial.at(expanded_widths(initial, last, {c.name: c.size for c in last.shared}))
        return last.parameters


class UnitGating(Gating):
    """DGMa: a gate per unit, applied after the activation.

    A unit's activity times its gate is what the next layer reads, so the gate acts on the columns of the weights that
    read the unit: the network needs no masking layer, and nothing that is switched off gets past a norm.
    """

    selects = "unit"
    local = False

    def shapes(self, topology: Topology) -> dict[str, tuple[int, ...]]:
        """One gate per unit of each group."""
        return {group: (width,) for group, width in zip(topology.groups, topology.widths, strict=True)}

    def effective(self, topology: Topology, weights: Mapping[str, Tensor], gates: Gates) -> dict[str, Tensor]:
        """W with the columns of each unit that it reads scaled by the unit's gate; the head included  [DGM eq. 1].

        Behind hard gates a closed unit is not written either. Nobody reads it, but the task's norms would keep what
        others have learned there, which may have to be erased.
        """
        factors = {
            c.name: spread(gates[topology.groups[c.reads]], c.in_axis, c)
            for c in topology.connections
            if c.reads is not None
        }
        if all(gate.dtype == torch.bool for gate in gates.values()):
            factors |= self.masks(topology, gates)
        return {name: weights[name] * factor for name, factor in factors.items()}

    def masks(self, topology: Topology, gates: Gates) -> dict[str, Tensor]:
        """The minimum of the gates at both ends: a weight is read where its input and its output unit are used.

        The union of all tasks' gates gives what is protected: every weight between two reserved units  [DGM eq. 5].
        """
        masks = {}
        for c in topology.shared:
            assert c.writes is not None
            mask = spread(gates[topology.groups[c.writes]], c.out_axis, c)
            if c.reads is not None:
                mask = torch.minimum(mask, spread(gates[topology.groups[c.reads]], c.in_axis, c))
            masks[c.name] = mask.expand(c.shape)
        return masks

    def expanded(self, initial: Topology, last: Topology, reserved: Gates) -> tuple[int, ...]:
        """Every group gets as many units as were reserved of it  [DGM sec. 3.2]."""
        units = zip(initial.groups, initial.widths, last.widths, strict=True)
        return tuple(max(now, before + int(reserved[group].sum())) for group, before, now in units)

    def worst_case(self, initial: Topology, tasks: int) -> int:
        """Linear in units, and so quadratic in the weights between them."""
        return initial.at([tasks * width for width in initial.widths]).parameters
