"""Decoders that read noise where a class was found, and the Gaussians that say where."""

import pytest
import torch

from dgm_core.experts import FrozenExpert
from dgm_core.manifest import DataSpec
from dgm_core.networks.dense import Dense
from dgm_core.networks.placed import Placed, fitted

SPEC, D = DataSpec((1, 9, 8), "uint8"), 4


@pytest.fixture
def placed():
    torch.manual_seed(0)
    decoder = Dense(SPEC, D).generator((16, 12), 1)
    factor = torch.linalg.cholesky(torch.eye(D) + torch.ones(D, D)) * torch.tensor([1.0, 0.1])[:, None, None]
    return Placed(decoder, torch.tensor([[0.0] * D, [3.0] * D]), factor).eval()


def test_each_class_is_read_from_its_gaussian(placed):
    z, c = torch.randn(8, D), torch.tensor([0, 1] * 4)
    latents = torch.stack(
        [placed.mean[label] + placed.factor[label] @ noise for noise, label in zip(z, c, strict=True)]
    )
    assert torch.allclose(placed(z, c), placed.decoder(latents, torch.zeros(8, dtype=torch.long)), atol=1e-5)
    assert placed(z, 0 * c).std() > 2 * placed(z, 0 * c + 1).std(dim=0).mean()


def test_a_compiled_one_is_the_same_function_without_the_units_that_nobody_reads(placed):
    with torch.no_grad():
        placed.decoder.head.weight[:, 3] = 0
    expert = FrozenExpert(placed.folded(), ("a", "b"), D)
    z, c = torch.randn(64, D), torch.arange(64) % 2
    assert torch.allclose(expert.generate(z, c), placed(z, c), atol=1e-6)
    assert expert.nbytes < sum(t.numel() * 4 for t in placed.state_dict().values())
    assert (
        expert.digest
        != FrozenExpert(Placed(placed.decoder, placed.mean, 2 * placed.factor).folded(), ("a", "b"), D).digest
    )


def test_where_an_example_is_read_does_not_hang_on_how_many_are(placed):
    z, c = torch.randn(33, D), torch.arange(33) % 2
    latents = []
    placed.decoder.register_forward_pre_hook(lambda module, given: latents.append(given[0]))
    placed(z, c)
    placed(z[:5], c[:5])
    assert torch.equal(latents[0][:5], latents[1])


def test_a_gaussian_has_the_moments_of_the_latents_that_it_is_fitted_to():
    torch.manual_seed(0)
    variances = torch.rand(500, D)
    latents = torch.randn(500, D) @ torch.randn(D, D) + 7
    mean, factor = fitted(latents, variances)
    assert torch.allclose(mean, latents.mean(dim=0))
    expected = torch.cov(latents.T, correction=0) + variances.mean(dim=0).diag()
    assert torch.allclose(factor @ factor.T, expected, rtol=1e-4, atol=1e-4)


def test_one_example_is_enough_for_a_gaussian():
    mean, factor = fitted(torch.full((1, D), 2.0), torch.full((1, D), 0.25))
    assert mean.tolist() == [2.0] * D
    assert torch.equal(factor, torch.eye(D) / 2)


def test_examples_that_are_all_alike_have_a_gaussian_too():
    latents = torch.cat([torch.ones(3, D), 1 + 1e-3 * torch.eye(D)])
    for known in (torch.ones(5, D), latents):
        _, factor = fitted(known, torch.zeros(len(known), D))
        assert torch.isfinite(factor).all() and (factor.diagonal() > 0).all()
