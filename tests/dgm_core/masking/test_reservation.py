import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgm_core.manifest import DataSpec
from dgm_core.masking.ledger import Ledger
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.masking.reservation import protect_, restore_
from dgm_core.masking.sparsity import free_capacity, reservation_cost, scarcity
from dgm_core.memories.dgma import DGMa
from dgm_core.memories.dgmw import DGMw
from dgm_core.networks.chains import Dcgan
from dgm_core.training.adversarial import AdversarialStep
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.trainees import Masked
from tests.dgm_core.masking.shapes import write

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


def claimed_at_random(gating, topology, seed):
    """A ledger in which one task has claimed half of everything."""
    ledger = Ledger(gating)
    page, _ = write(ledger, topology, seed)
    ledger.append(page, topology)
    return ledger


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([DGMw, DGMa]), st.sampled_from(["fast", "paper"]), st.booleans())
def test_no_reserved_weight_moves_by_a_bit_under_the_optimiser_in_use(seed, kind, recipe, hard):
    torch.manual_seed(seed)
    recipe = kind.recipes[recipe]
    architecture = Dcgan(SPEC, 16)
    network = architecture.generator((8, 4), 2)
    topology = network.topology
    before = {c.name: network.get_parameter(c.name).detach().clone() for c in topology.shared}
    ledger = claimed_at_random(kind.gating, topology, seed)
    g = MaskedGenerator(network, topology, ledger, ledger.owned_by([]), recipe.s_max, torch.device("cpu"))
    g.slope = 3.0
    x = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)
    step = AdversarialStep(Masked(g, recipe), architecture.discriminator(2, recipe.kernel), recipe, 16)
    for _ in range(3):
        step(BalancedBatches(x, torch.arange(40) % 2, 2))
        if hard and g.hard is None:
            g.harden()
    moved = 0
    for name, reserved in g.reserved.items():
        now = network.get_parameter(name).detach()
        assert torch.equal(now[reserved], before[name][reserved])
        moved += int((now != before[name]).sum())
    assert moved > 0
    assert g.settle() == 0


def beside_a_task_that_must_stay_erasable(kind, seed):
    """A second task's generator, which may open none of the gates of the first."""
    network = Dcgan(SPEC, 16).generator((8, 4), 2)
    ledger = claimed_at_random(kind.gating, network.topology, seed)
    forbidden = ledger.owned_by([0])
    return MaskedGenerator(network, network.topology, ledger, forbidden, 1e4, torch.device("cpu")), ledger


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([DGMw, DGMa]))
def test_a_task_opens_no_gate_that_is_forbidden_soft_or_hard(seed, kind):
    g, ledger = beside_a_task_that_must_stay_erasable(kind, seed)
    with torch.no_grad():
        for e in g.embeddings.values():
            e.add_(1.0)
    for _ in range(2):
        for name, gates in g.gates().items():
            assert not gates[ledger.owned[0][name]].any()
            assert gates[~ledger.owned[0][name]].all()
        g.harden()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([DGMw, DGMa]))
def test_a_layer_whose_gates_would_all_close_keeps_the_most_open_one_that_it_may(seed, kind):
    g, ledger = beside_a_task_that_must_stay_erasable(kind, seed)
    with torch.no_grad():
        for e in g.embeddings.values():
            e.copy_(-1 - torch.rand(e.shape))
    g.harden()
    for name, gates in g.hard.items():
        allowed = ~ledger.owned[0][name]
        assert gates.sum() == allowed.any()
        if allowed.any():
            assert g.embeddings[name][gates] == g.embeddings[name][allowed].max()


def test_settling_counts_and_undoes_what_moved():
    weight = torch.zeros(3)
    reserved = {"w": torch.tensor([True, True, False])}
    weight += 1
    assert restore_({"w": weight}, {"w": torch.zeros(3)}, reserved) == 2
    assert weight.tolist() == [0, 0, 1]


@given(masks((6,)))
def test_reuse_is_free_and_only_free_capacity_is_charged(reserved):
    assert reservation_cost({"w": reserved.float()}, {"w": reserved}) == 0
    everything = reservation_cost({"w": torch.ones(6)}, {"w": reserved})
    assert everything == (1 if free_capacity({"w": reserved}) else 0)


def test_scarcity_starts_at_one_and_grows():
    assert scarcity({"w": torch.zeros(4, dtype=torch.bool)}) == 1
    assert scarcity({"w": torch.tensor([True, True, True, False])}) == 4
