"""Reverse accuracy in a feature space: a linear discriminant of generated features, judged on real ones.

    δ_c(f) = f·Σ⁻¹μ_c − ½ μ_c·Σ⁻¹μ_c,  with class means μ_c and one pooled covariance Σ

Fisher, "The use of multiple measurements in taxonomic problems", 1936; equal priors. In closed form and therefore a
function of the features alone: the same samples give the same figure, which a trained judge would not promise.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RIDGE = 1e-2
LEAST_VARIANCE = 1e-9  # of samples that are all alike


def recognised(
    generated: Sequence[Float[Tensor, "_ features"]], real: Float[Tensor, "n features"], own: int, ridge: float = RIDGE
) -> Bool[Tensor, " n"]:
    """Which real examples of one class a discriminant of generated examples gives to that class.

    Arguments:
        generated: features of generated examples, class by class, at least one of each.
        real: features of real examples of one class.
        own: that class, an index into `generated`.
        ridge: added to Σ, in units of its mean variance, so that few examples in many dimensions suffice.
    """
    parts = [part.double() for part in generated]
    means = torch.stack([part.mean(dim=0) for part in parts])
    centred = torch.cat([part - mean for part, mean in zip(parts, means, strict=True)])
    covariance = centred.T @ centred / len(centred)
    variance = covariance.diagonal().mean().clamp(min=LEAST_VARIANCE)
    weights = torch.linalg.solve(covariance + ridge * variance * torch.eye(means.shape[1]).to(covariance), means.T)
    scores = real.double() @ weights - 0.5 * (means * weights.T).sum(dim=1)
    chosen: Tensor = scores.argmax(dim=1)
    return chosen == own
