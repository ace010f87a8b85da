import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from dgm_core.losses.adversarial import Logistic, Wasserstein
from dgm_core.losses.penalties import gradient_penalty, r1_penalty

scores = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8).map(torch.tensor)


@given(scores, scores)
def test_the_logistic_critic_is_the_cross_entropy_of_telling_real_from_generated(real, fake):
    said = torch.cat([real, fake])
    truth = torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    per_example = F.binary_cross_entropy_with_logits(said, truth, reduction="none")
    expected = per_example[: len(real)].mean() + per_example[len(real) :].mean()
    assert torch.isclose(Logistic().critic(real, fake), expected, atol=1e-6)


def test_a_generator_that_fools_nobody_still_gets_a_gradient():
    score = torch.tensor([-20.0], requires_grad=True)
    Logistic().generator(score).backward()
    assert torch.isclose(score.grad, torch.tensor([-1.0]))


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


def test_r1_is_half_the_squared_slope_at_real_examples_and_reaches_the_critics_weights():
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    penalty = r1_penalty(lambda x: x @ w, torch.randn(16, 2))
    assert torch.isclose(penalty, torch.tensor(12.5))
    penalty.backward()
    assert torch.allclose(w.grad, w.detach())
