import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.manifest import DataSpec
from dgm_core.masking.gating import UnitGating, WeightGating
from dgm_core.networks.residual import Residual
from tests.dgm_core.masking.shapes import chain

TOPOLOGY = chain(3, 4, 5)


def unit_gates(seed):
    source = torch.Generator().manual_seed(seed)
    return {"g0": torch.rand(4, generator=source) > 0.5, "g1": torch.rand(5, generator=source) > 0.5}


@given(st.integers(0, 1000))
def test_a_unit_mask_acts_after_the_activation(seed):
    """y = m·act(Wx): scaling the columns that read a unit is the same as scaling the unit's activity."""
    source = torch.Generator().manual_seed(seed)
    weights = {c.name: torch.randn(c.shape, generator=source) for c in TOPOLOGY.connections}
    gates = {name: m.float() for name, m in unit_gates(seed).items()}
    x = torch.randn(3, generator=source)
    w = UnitGating().effective(TOPOLOGY, weights, gates)
    assert "w0" not in w  # nothing gates the network's input
    h = torch.relu(w["w1"] @ torch.relu(weights["w0"] @ x))
    expected = gates["g1"] * torch.relu(weights["w1"] @ (gates["g0"] * torch.relu(weights["w0"] @ x)))
    assert torch.allclose(w["w2"] @ h, weights["w2"] @ expected, atol=1e-5)


@given(st.integers(0, 1000))
def test_behind_hard_gates_a_task_reads_what_its_masks_say_and_no_more(seed):
    weights, gates = {c.name: torch.randn(c.shape) for c in TOPOLOGY.connections}, unit_gates(seed)
    effective, masks = UnitGating().effective(TOPOLOGY, weights, gates), UnitGating().masks(TOPOLOGY, gates)
    assert all(torch.equal(effective[name], weights[name] * masks[name]) for name in masks)
    assert torch.equal(effective["w2"], weights["w2"] * gates["g1"])


@given(st.integers(0, 1000))
def test_a_weight_is_reserved_where_both_its_units_are(seed):
    gates = unit_gates(seed)
    masks = UnitGating().masks(TOPOLOGY, gates)
    assert torch.equal(masks["w1"], gates["g1"][:, None] & gates["g0"][None, :])
    assert torch.equal(masks["w0"], gates["g0"][:, None].expand(4, 3))
    assert set(masks) == {"w0", "w1"}, "the head belongs to the task"


def test_a_weight_mask_is_its_own_gate():
    gates = {c.name: torch.rand(c.shape) > 0.5 for c in TOPOLOGY.shared}
    masks = WeightGating().masks(TOPOLOGY, gates)
    assert all(torch.equal(masks[name], gates[name]) for name in gates)


@given(st.integers(0, 1000))
def test_units_grow_by_what_was_reserved_and_never_shrink(seed):
    gates = unit_gates(seed)
    grown = UnitGating().expanded(TOPOLOGY, TOPOLOGY, gates)
    assert grown == (4 + int(gates["g0"].sum()), 5 + int(gates["g1"].sum()))
    nothing = {name: torch.zeros_like(g) for name, g in gates.items()}
    assert UnitGating().expanded(TOPOLOGY, TOPOLOGY.at((9, 9)), nothing) == (9, 9)


def test_the_worst_case_of_a_chain_is_linear_in_what_is_gated():
    assert WeightGating().worst_case(TOPOLOGY, 3) == 3 * (12 + 20)
    assert UnitGating().worst_case(TOPOLOGY, 3) == 12 * 3 + 12 * 15


@pytest.mark.parametrize("gating", [WeightGating(), UnitGating()])
def test_the_worst_case_is_what_tasks_that_take_all_make_of_a_residual_network(gating):
    residual = Residual(DataSpec((3, 16, 16), "uint8"), 8)
    initial = last = residual.topology(residual.initial_widths(2))
    for tasks in range(1, 4):
        assert gating.worst_case(initial, tasks) == last.parameters
        everything = {name: torch.ones(shape, dtype=torch.bool) for name, shape in gating.shapes(last).items()}
        last = initial.at(gating.expanded(initial, last, everything))
