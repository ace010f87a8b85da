import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.losses.adversarial import Hinge, Wasserstein
from dgm_core.losses.penalties import gradient_penalty

scores = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8).map(torch.tensor)


@given(scores, scores)
def test_the_hinge_is_zero_exactly_when_all_scores_are_beyond_the_margin(real, fake):
    beyond = bool((real >= 1).all() and (fake <= -1).all())
    assert bool(Hinge().critic(real, fake) == 0) == beyond


@given(scores, scores)
def test_the_wasserstein_critic_gains_what_separates_the_means(real, fake):
    assert torch.isclose(Wasserstein().critic(real, fake), fake.mean() - real.mean())


def test_a_linear_critic_pays_for_the_distance_of_its_slope_from_one():
    w = torch.tensor([3.0, 4.0])
    penalty = gradient_penalty(lambda x: x @ w, torch.randn(16, 2), torch.randn(16, 2))
    assert torch.isclose(penalty, torch.tensor(16.0))


def test_the_penalty_reaches_the_critics_own_weights():
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    gradient_penalty(lambda x: x @ w, torch.randn(16, 2), torch.randn(16, 2)).backward()
    assert torch.allclose(w.grad, 2 * 4.0 * w.detach() / 5)
