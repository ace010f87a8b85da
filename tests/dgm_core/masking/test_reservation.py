import torch
from dgm_core.networks.generators import chain_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from dgm_core.masking.masked import MaskedGenerator
from dgm_core.masking.reservation import cumulate, protect_, restore_
from dgm_core.masking.sparsity import free_capacity, reservation_cost, scarcity
from dgm_core.memory import DataSpec
from dgm_core.training.adversarial import AdversarialStep
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.recipes import RECIPES

SPEC = DataSpec((1, 8, 8), "uint8")


def masks(shape):
    return st.integers(0, 2**31).map(
        lambda seed: torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.5
    )


@given(masks((4, 5)))
def test_the_gradient_is_zero_wherever_a_weight_is_reserved(reserved):
    weight = torch.randn(4, 5, requires_grad=True)
    (weight * torch.randn(4, 5)).sum().backward()
    free_gradient = weight.grad.clone()
    protect_({"w": weight}, {"w": reserved})
    assert not weight.grad[reserved].any()
    assert torch.equal(weight.grad[~reserved], free_gradient[~reserved])


def reserved_entries(seed, network):
    source = torch.Generator().manual_seed(seed)
    return {n: torch.rand(network.get_parameter(n).shape, generator=source) > 0.5 for n in network.shared_names}


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(sorted(RECIPES)), st.booleans())
def test_no_reserved_weight_moves_by_a_bit_under_the_optimiser_in_use(seed, recipe, hard):
    torch.manual_seed(seed)
    recipe = RECIPES[recipe]
    network = chain_generator(SPEC, (8, 4), 2, 16)
    before = {n: network.get_parameter(n).detach().clone() for n in network.shared_names}
    g = MaskedGenerator(network, reserved_entries(seed, network), recipe.s_max)
    g.slope = 3.0
    x = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)
    step = AdversarialStep(g, recipe.discriminator(SPEC, 2), recipe, 16)
    for _ in range(3):
        step(BalancedBatches(x, torch.arange(40) % 2, 2))
        if hard and g.hard is None:
            g.harden()
    for name, reserved in g.reserved.items():
        now = network.get_parameter(name).detach()
        assert torch.equal(now[reserved], before[name][reserved])
        assert not torch.equal(now[~reserved], before[name][~reserved])
    assert g.settle() == 0


def test_settling_counts_and_undoes_what_moved():
    weight = torch.zeros(3)
    reserved = {"w": torch.tensor([True, True, False])}
    weight += 1
    assert restore_({"w": weight}, {"w": torch.zeros(3)}, reserved) == 2
    assert weight.tolist() == [0, 0, 1]


@given(masks((6,)), masks((6,)))
def test_what_was_reserved_stays_reserved(m, reserved):
    together = cumulate({"w": m}, {"w": reserved})["w"]
    assert torch.equal(together, m | reserved)


@given(masks((6,)))
def test_reuse_is_free_and_only_free_capacity_is_charged(reserved):
    assert reservation_cost({"w": reserved.float()}, {"w": reserved}) == 0
    everything = reservation_cost({"w": torch.ones(6)}, {"w": reserved})
    assert everything == (1 if free_capacity({"w": reserved}) else 0)


def test_scarcity_starts_at_one_and_grows():
    assert scarcity({"w": torch.zeros(4, dtype=torch.bool)}) == 1
    assert scarcity({"w": torch.tensor([True, True, True, False])}) == 4
