"""Reservation: what a task used is never changed again.

    g' = (1 − m^{<t})·g,    m^{≤t} = max(m^t, m^{<t})       [DGM eq. 5]

The second line is the workshop version's "all previous tasks"; the conference paper prints m^{t−1} there. The ledger
keeps that union.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

Masks = Mapping[str, Tensor]
"""Layer name -> boolean mask over the layer's weights or units."""


@torch.no_grad()
def protect_(weights: Mapping[str, Tensor], reserved: Masks) -> None:
    """Zeroes, in place, the gradient of every reserved weight  [DGM eq. 5]."""
    for name, weight in weights.items():
        if weight.grad is not None:
            weight.grad.masked_fill_(reserved[name], 0.0)


@torch.no_grad()
def restore_(weights: Mapping[str, Tensor], snapshot: Mapping[str, Tensor], reserved: Masks) -> int:
    """Copies the reserved entries back from a snapshot, in place; returns how many had moved (there should be none)."""
    moved = 0
    for name, weight in weights.items():
        entries = reserved[name]
        moved += int((weight[entries] != snapshot[name][entries]).sum())
        weight[entries] = snapshot[name][entries]
    return moved
