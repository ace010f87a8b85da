"""Pruning: which units of a generator can be seen in what it generates. All it knows of a network is its topology.

    live(u)  ⇔  some W reads u with W[v, u] ≠ 0 into a live unit v, or into the output

The activity of any other unit is multiplied by zero wherever it is read, so that a generator without it is the same
function. Masks make such units: those that a task does not use, and those that only such units read.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from dgm_core.topology import Connection, Topology, spread


def live_units(topology: Topology, weights: Mapping[str, Tensor]) -> list[Int[Tensor, " _"]]:
    """Indices of the live units of each group; the first one of a group that has none, since no layer may be empty.

    Arguments:
        weights: effective ones by name, of all connections.
    """
    live = [torch.zeros(width, dtype=torch.bool) for width in topology.widths]
    for c in reversed(topology.connections):  # all that is read of what a layer writes comes after it
        if c.reads is not None:
            live[c.reads] |= _read(c, weights[c.name], live)
    return [torch.nonzero(units).flatten() if units.any() else torch.zeros(1, dtype=torch.long) for units in live]


def _read(connection: Connection, weight: Tensor, live: Sequence[Bool[Tensor, " _"]]) -> Bool[Tensor, " units"]:
    """The units that a connection reads with a weight other than zero into a live unit."""
    used = weight != 0
    if connection.writes is not None:
        used = used & spread(live[connection.writes].to(weight.device), connection.out_axis, connection)
    return used.transpose(0, connection.in_axis).flatten(1).any(1).cpu()
