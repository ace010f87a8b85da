import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.masking.gates import compensate_, hard_gate, occupancy, soft_gate

embeddings = st.lists(st.floats(-6, 6, width=32), min_size=1, max_size=20).map(torch.tensor)


def test_a_fresh_gate_lets_half_of_everything_through():
    assert soft_gate(torch.zeros(3), 1e4).tolist() == [0.5, 0.5, 0.5]


@given(embeddings)
def test_a_steep_soft_gate_is_the_hard_one_away_from_zero(e):
    far = e.abs() > 0.01
    assert torch.equal(soft_gate(e, 1e4)[far].round().bool(), hard_gate(e)[far])


@given(embeddings, st.floats(1e-3, 50))
def test_compensation_gives_the_gradient_of_a_gate_of_slope_one(e, s):
    e = e.clone().requires_grad_(True)
    soft_gate(e, s).sum().backward()
    compensate_(e, s, s_max=1.0)
    flat = e.detach().clone().requires_grad_(True)
    soft_gate(flat, 1.0).sum().backward()
    unclamped = (s * e.detach()).abs() < 8  # beyond, the sigmoid's gradient has no digits left to compensate
    assert torch.allclose(e.grad[unclamped], flat.grad[unclamped], rtol=1e-2)


def test_compensation_leaves_a_gate_without_gradient_alone():
    e = torch.zeros(2, requires_grad=True)
    compensate_(e, 1.0, 10.0)
    assert e.grad is None


def test_occupancy_is_the_share_of_open_gates():
    assert occupancy(torch.tensor([True, False, False, True])) == 0.5
