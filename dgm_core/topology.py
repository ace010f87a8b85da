"""Topology: how the weights of a generator connect its groups of units. All that masking knows of a network.

A group is a set of units (channels of a convolution, outputs of a linear layer) that grow and are masked together;
every layer that writes to a residual sum writes to one group. A new network describes itself in these terms and needs
no change elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import Tensor


@dataclass(frozen=True)
class Connection:
    """One weight, from the units that it reads to the units that it writes.

    Arguments:
        name: of the parameter.
        shape: of the parameter.
        reads: index of the group that it reads; None: the network's input.
        writes: index of the group that it writes; None: the network's output.
        in_axis, out_axis: where the units that it reads and writes lie in its shape.
    """

    name: str
    shape: tuple[int, ...]
    reads: int | None
    writes: int | None
    in_axis: int
    out_axis: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return prod(self.shape)


@dataclass(frozen=True)
class Topology:
    """The groups of a generator and all weights that touch them.

    Arguments:
        groups: names, input side first.
        widths: units per group.
        connections: in the order of the forward pass. Those that write to a group are shared among tasks; those that
            write to the output belong to one task.
    """

    groups: tuple[str, ...]
    widths: tuple[int, ...]
    connections: tuple[Connection, ...]

    @property
    def shared(self) -> tuple[Connection, ...]:
        """The weights that belong to the memory and not to one task."""
        return tuple(c for c in self.connections if c.writes is not None)

    @property
    def parameters(self) -> int:
        """Number of shared weights."""
        return sum(c.size for c in self.shared)

    def at(self, widths: Sequence[int]) -> "Topology":
        """The same network with other widths."""
        connections = tuple(_resized(connection, widths) for connection in self.connections)
        return replace(self, widths=tuple(widths), connections=connections)


def spread(units: Tensor, axis: int, connection: Connection) -> Tensor:
    """One value per unit, shaped so that it broadcasts along `axis` of a weight."""
    return units.reshape([-1 if each == axis else 1 for each in range(len(connection.shape))])


def _resized(connection: Connection, widths: Sequence[int]) -> Connection:
    shape = list(connection.shape)
    for axis, group in ((connection.in_axis, connection.reads), (connection.out_axis, connection.writes)):
        if group is not None:
            shape[axis] = widths[group]
    return replace(connection, shape=tuple(shape))
