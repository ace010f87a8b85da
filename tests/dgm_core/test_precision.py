import pytest
import torch

from dgm_core.bundles import Bundle
from dgm_core.precision import ReducedExpert, has_bfloat16
from dgm_core.training.devices import autocast
from tests.dgm_core.tasks import SPECS
from tests.dgm_core.test_bundles import alike, inputs

CPU = torch.device("cpu")


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_what_is_generated_is_rounded_to_about_eight_bits(spec):
    (expert,) = alike(*spec, count=1)
    z, c = inputs(1, 64)
    full, reduced = (each.generate(z[0], c[0]) for each in (expert, ReducedExpert(expert)))
    assert reduced.shape == full.shape and reduced.dtype == torch.float32
    difference = (reduced - full).abs() / full.abs().max()
    assert 0 < difference.mean() < 0.02
    assert difference.max() < 0.25


def test_the_expert_itself_stays_as_it_is_and_takes_twice_the_memory():
    (expert,) = alike(*SPECS[1], count=1)
    z, c = inputs(1, 8)
    before = expert.generate(z[0], c[0])
    reduced = ReducedExpert(expert).to(CPU)
    assert torch.equal(expert.generate(z[0], c[0]), before)
    assert 2 * reduced.nbytes == expert.nbytes
    assert (reduced.digest, reduced.classes, reduced.noise_dim) == (expert.digest, expert.classes, expert.noise_dim)


def test_the_same_rows_are_the_same_bits_again():
    (expert,) = alike(*SPECS[1], count=1)
    z, c = inputs(1, 64)
    assert torch.equal(*(ReducedExpert(expert).generate(z[0], c[0]) for _ in range(2)))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_reduced_experts_are_bundled_with_each_other_alone(spec):
    experts = alike(*spec)
    reduced = [ReducedExpert(expert) for expert in experts]
    z, c = inputs(3, 4)
    together = Bundle(reduced).generate(z, c)
    alone = torch.stack([expert.generate(*each) for expert, *each in zip(reduced, z, c, strict=True)])
    assert (together - alone).abs().mean() < 0.02 * alone.abs().max()
    with pytest.raises(ValueError, match="several signatures"):
        Bundle([experts[0], reduced[1]])


def test_training_asks_the_same_whether_bfloat16_is_worth_it():
    with autocast(CPU, half=True):
        assert torch.is_autocast_enabled("cpu") == has_bfloat16(CPU)
