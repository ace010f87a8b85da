"""Checkpoints: all that a training has changed, put down between two steps, so that another process goes on from there.

It goes on to the same bits, for the state holds the optimisers, the averages, the state of every source of randomness
and the place in the schedule, too. It holds no data: that has to be there again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class State:
    """The state of a training.

    Arguments:
        tensors: by path, such as "generator/head.weight".
        values: the rest, as JSON can hold it.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


@runtime_checkable
class Checkpoints(Protocol):
    """Where one training puts down its state, and finds that of an earlier attempt at the same task."""

    def found(self) -> State | None:
        """What an earlier attempt put down last; None if there was none, or it fits this one no more."""
        ...

    def due(self) -> bool:
        """Whether it is time to put down the state; asked between any two steps."""
        ...

    def keep(self, state: State) -> None:
        """Puts down a state, whose tensors go on changing once this returns.

        Raises:
            Cancelled: this was the last thing that was wanted of the training.
        """
        ...


class NoCheckpoints:
    """Keeps nothing."""

    def found(self) -> None:
        """There is nothing."""

    def due(self) -> bool:
        """Never."""
        return False

    def keep(self, state: State) -> None:
        """Does nothing."""


NONE = NoCheckpoints()
