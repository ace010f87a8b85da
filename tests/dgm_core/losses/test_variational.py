"""Terms of the variational bound, against what torch knows of the distributions."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from dgm_core.losses.variational import bernoulli_error, gaussian_divergence, gaussian_error


def test_the_divergence_of_gaussians_is_the_one_that_torch_knows():
    mean, log_variance, prior_mean, deviation = (
        torch.randn(6, 5),
        torch.randn(6, 5),
        torch.randn(6, 5),
        torch.rand(5) + 1,
    )
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(prior_mean, deviation)).sum(dim=1).mean()
    assert gaussian_divergence(mean, log_variance, prior_mean, deviation).item() == pytest.approx(expected.item(), 1e-5)


def test_the_gaussian_error_is_that_of_the_best_deviation():
    x, given = torch.randn(8, 3, 4), torch.randn(8, 3, 4)

    def error(deviation):
        return -Normal(given, deviation).log_prob(x).flatten(1).sum(dim=1).mean().item()

    best = (x - given).square().mean().sqrt().item()
    assert gaussian_error(x, given).item() == pytest.approx(error(best), 1e-5)
    assert gaussian_error(x, given) < error(1.2 * best) and gaussian_error(x, given) < error(best / 1.2)


def test_the_bernoulli_error_reads_images_as_probabilities_and_is_finite_where_they_are_certain():
    x, given = torch.rand(4, 1, 3, 3) * 2 - 1, torch.rand(4, 1, 3, 3) * 1.9 - 0.95
    expected = F.binary_cross_entropy((given + 1) / 2, (x + 1) / 2, reduction="none").flatten(1).sum(dim=1).mean()
    assert bernoulli_error(x, given).item() == pytest.approx(expected.item(), 1e-3)
    assert torch.isfinite(bernoulli_error(torch.ones(1, 4), -torch.ones(1, 4)))
