"""Penalties on the critic's gradient with respect to its input."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_penalty(
    critic: Callable[[Tensor], Float[Tensor, " batch"]],
    real: Float[Tensor, "batch *shape"],
    fake: Float[Tensor, "batch *shape"],
) -> Float[Tensor, ""]:
    """E[(‖∇D(x̂)‖ − 1)²] at random points x̂ between real and fake (Gulrajani et al. 2017, eq. 3).

    Double backward: run it eagerly, torch.compile may drop the second graph.
    """
    mix = torch.rand(real.shape[0], *[1] * (real.dim() - 1), device=real.device)
    between = torch.lerp(fake, real, mix).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    excess: Tensor = gradient.flatten(1).norm(dim=1) - 1
    return excess.square().mean()


def r1_penalty(
    critic: Callable[[Tensor], Float[Tensor, " batch"]], real: Float[Tensor, "batch *shape"]
) -> Float[Tensor, ""]:
    """½·E[‖∇D(x)‖²] on real examples (Mescheder et al. 2018, eq. 9): a critic that need not be sure lets modes live.

    Double backward, as for `gradient_penalty`.
    """
    x = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean() / 2
