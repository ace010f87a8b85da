"""Exponential moving averages that cannot drift.

`lerp_` leaves a constant constant to the bit, which b·e + (1 − b)·w does not; and only entries that the task may change
are averaged at all.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """An average of some parameters, restricted to some of their entries.

    Arguments:
        parameters: by name.
        entries: boolean masks by name; a parameter without one is averaged whole.
        decay: weight of the past in each update.
        updates: how many there have been.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        entries: Mapping[str, Tensor],
        decay: float,
        updates: int = 0,
    ) -> None:
        self.parameters, self.decay = parameters, decay
        self.entries = entries
        self.mean = {name: p.detach().clone() for name, p in parameters.items()}
        self.updates = updates

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the present values; early averages forget faster."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.mean.values()), list(self.parameters.values()), 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Writes the average into the parameters, where it is defined."""
        for name, p in self.parameters.items():
            if name in self.entries:
                p[self.entries[name]] = self.mean[name][self.entries[name]]
            else:
                p.copy_(self.mean[name])
