"""Terms of the variational bound −log p(x) ≤ −E[log p(x|z)] + KL(q(z|x) ‖ p(z)) (Kingma and Welling 2014).

Both are sums over dimensions and means over a batch, in nats.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_PROBABILITY = 1e-5
LEAST_VARIANCE = 1e-6


def gaussian_divergence(
    mean: Float[Tensor, "batch latent"],
    log_variance: Float[Tensor, "batch latent"],
    prior_mean: Float[Tensor, "batch latent"],
    prior_deviation: Float[Tensor, " latent"],
) -> Float[Tensor, ""]:
    """KL(N(mean, exp(log_variance)) ‖ N(prior_mean, prior_deviation²)) of diagonal Gaussians."""
    prior = prior_deviation.square()
    terms = (log_variance.exp() + (mean - prior_mean).square()) / prior - 1 - log_variance + prior.log()
    return terms.sum(dim=1).mean() / 2


def bernoulli_error(x: Float[Tensor, "batch *shape"], given: Float[Tensor, "batch *shape"]) -> Float[Tensor, ""]:
    """−log p(x) of images in [−1, 1] whose pixels are probabilities on that scale, as are those that they are given."""
    p = torch.lerp(torch.full_like(given, 0.5), (given + 1) / 2, 1 - 2 * LEAST_PROBABILITY)
    target = (x + 1) / 2
    loss: Tensor = -(target * p.log() + (1 - target) * (1 - p).log())
    return loss.flatten(1).sum(dim=1).mean()


def gaussian_error(x: Float[Tensor, "batch *shape"], given: Float[Tensor, "batch *shape"]) -> Float[Tensor, ""]:
    """−log p(x) of N(given, σ²) with the σ that fits the batch best (Rybkin et al. 2021, sec. 4): ½·D·log(2πe·σ²).

    So no weight is needed between the terms of the bound, whatever the scale of x.
    """
    dimensions = math.prod(x.shape[1:])
    variance: Tensor = (x - given).square().mean().clamp_min(LEAST_VARIANCE)
    return dimensions / 2 * (math.log(2 * math.pi * math.e) + variance.log())
