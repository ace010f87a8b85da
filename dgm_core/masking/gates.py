"""Gates: a real-valued embedding per weight becomes a soft mask in training and a hard one for good.

    m = σ(s·e)      soft, slope s            [DGM eq. 2]
    m = [e > 0]     hard: the limit s → ∞

Soft masks must never be committed: entries in (0, 0.5) are used by a replay but reserved for nobody, so replaying
through them forgets. Everything that is sampled, reserved or stored uses the hard gate.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EXPONENT_LIMIT = 50.0


def soft_gate(e: Float[Tensor, "*shape"], s: float) -> Float[Tensor, "*shape"]:
    """Soft mask m = σ(s·e) in (0, 1)  [DGM eq. 2]."""
    return torch.sigmoid(s * e)


def hard_gate(e: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Hard mask [e > 0], the limit of the soft one for a growing slope."""
    return e > 0


@torch.no_grad()
def compensate_(e: Float[Tensor, "*shape"], s: float, s_max: float) -> None:
    """Rescales the gradient of e in place, as if the gate had slope 1 at every step.

    A gate of slope s passes gradients only where |s·e| is small. Multiplying by
    s_max·(cosh(s·e) + 1) / (s·(cosh(e) + 1)) undoes that (Serrà et al. 2018, HAT, sec. 2.4).
    """
    if e.grad is None:
        return
    steepness = torch.cosh((s * e).clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT)) + 1
    e.grad.mul_(steepness).div_(torch.cosh(e) + 1).mul_(s_max / s)


def occupancy(m: Tensor) -> float:
    """Mean of a mask, soft or hard, for progress reports; synchronises with the device."""
    return math.nan if m.numel() == 0 else float(m.float().mean())
