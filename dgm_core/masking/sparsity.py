"""Sparsity: reusing what earlier tasks reserved is free, reserving more costs.

R = Σ m·(1 − m^{<t}) / Σ (1 − m^{<t})       over all masked layers   [DGM eq. 6]
α = S_t / S_free                            its growing weight       [DGM sec. 3.3]
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from dgm_core.masking.reservation import Masks


def reservation_cost(masks: Mapping[str, Tensor], reserved: Masks) -> Float[Tensor, ""]:
    """R: the share of the free capacity that the soft masks of this task claim, in [0, 1]  [DGM eq. 6].

    Counts on the device: a number would make every step wait for it.
    """
    free = {name: ~reserved[name] for name in masks}
    claimed = torch.stack([(m * free[name]).sum() for name, m in masks.items()]).sum()
    return claimed / torch.stack([entries.sum() for entries in free.values()]).sum().clamp_min(1)


def scarcity(reserved: Masks) -> float:
    """α = S_t / S_free: 1 while everything is free, growing as capacity is taken."""
    return sum(taken.numel() for taken in reserved.values()) / max(free_capacity(reserved), 1)


def free_capacity(reserved: Masks) -> int:
    """How many weights no task has reserved."""
    return sum(int((~taken).sum()) for taken in reserved.values())
