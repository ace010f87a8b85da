import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.evaluation.discriminant import recognised

SEEDS = st.integers(0, 2**31)


def normal(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def test_classes_are_told_apart_along_a_direction_of_little_variance():
    stretch = torch.tensor([20.0, 1.0])
    left, right = normal(300, 2, 0) * stretch, normal(300, 2, 1) * stretch + torch.tensor([0.0, 6.0])
    real = normal(300, 2, 2) * stretch + torch.tensor([0.0, 6.0])
    assert recognised([left, right], real, own=1, ridge=1e-4).float().mean() > 0.98
    assert recognised([left, right], real, own=0, ridge=1e-4).float().mean() < 0.02


def test_a_single_class_has_nothing_to_be_told_apart_from():
    assert recognised([normal(10, 4, 0)], normal(20, 4, 1, 9.0), own=0).all()


def test_samples_that_miss_their_class_are_worth_nothing():
    generated = [normal(100, 4, 0), normal(100, 4, 1, 0.2)]
    assert recognised(generated, normal(100, 4, 2, -3.0), own=1).float().mean() < 0.1


@given(SEEDS, st.integers(1, 30), st.integers(1, 5))
def test_the_order_of_samples_and_fewer_samples_than_features_do_no_harm(seed, n, classes):
    generated = [normal(n, 12, seed + c, 3.0 * c) for c in range(classes)]
    real = normal(20, 12, seed + 99, 3.0 * (classes - 1))
    first = recognised(generated, real, own=classes - 1)
    assert torch.equal(recognised([part.flip(0) for part in generated], real, own=classes - 1), first)
    assert (
        first.float().mean() > 0.9 or n < 24
    )  # with fewer than two samples a feature the covariance is mostly guessed


def test_samples_that_are_all_alike_give_no_error():
    assert recognised([torch.zeros(3, 4), torch.ones(3, 4)], torch.ones(2, 4), own=1).all()
