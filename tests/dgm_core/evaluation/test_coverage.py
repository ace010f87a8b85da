import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.evaluation.coverage import coverage, density

SEEDS = st.integers(0, 2**31)


def normal(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def test_balls_reach_to_the_kth_neighbour_and_not_beyond():
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])  # to the second neighbour: 2, 1, 2 and 9
    assert coverage(real, torch.tensor([[-2.0]]), k=2) == 1 / 4
    assert coverage(real, torch.tensor([[-2.01]]), k=2) == 0
    assert coverage(real, torch.tensor([[1.0]]), k=2) == 1
    assert density(real, torch.tensor([[1.0], [-2.0]]), k=2) == (4 + 1) / (2 * 2)


@given(SEEDS, st.integers(6, 80), st.integers(1, 6))
def test_the_real_points_cover_themselves(seed, n, d):
    real = normal(n, d, seed)
    assert coverage(real, real) == 1
    assert density(real, real) >= 1


@given(SEEDS, st.integers(6, 60), st.integers(1, 60), st.integers(1, 70))
def test_neither_order_nor_chunks_change_coverage_and_density(seed, n, m, rows):
    real, generated = normal(n, 3, seed), normal(m, 3, seed + 1)
    shuffle = torch.Generator().manual_seed(seed)
    mixed, too = real[torch.randperm(n, generator=shuffle)], generated[torch.randperm(m, generator=shuffle)]
    assert coverage(mixed, too, rows=rows) == coverage(real, generated)
    assert density(mixed, too, rows=rows) == pytest.approx(density(real, generated))


@given(SEEDS, st.integers(7, 40), st.integers(1, 40), st.integers(1, 5))
def test_more_samples_and_larger_balls_never_cover_less(seed, n, m, k):
    real, generated = normal(n, 3, seed), normal(m + 5, 3, seed + 1)
    assert coverage(real, generated[:m], k) <= coverage(real, generated, k) <= coverage(real, generated, k + 1) <= 1


def test_samples_of_the_same_distribution_cover_it_at_a_density_of_about_one():
    real, generated = normal(1000, 8, 0), normal(1000, 8, 1)
    assert coverage(real, generated) > 0.9
    assert 0.9 < density(real, generated) < 1.1


def test_a_dropped_mode_is_not_covered():
    real = torch.cat([normal(500, 8, 0, -5), normal(500, 8, 1, 5)])
    assert 0.4 < coverage(real, normal(1000, 8, 2, 5)) <= 0.5


def test_samples_away_from_all_that_is_real_have_neither_coverage_nor_density():
    real, generated = normal(200, 8, 0), normal(200, 8, 1, 20)
    assert coverage(real, generated) == density(real, generated) == 0


@pytest.mark.parametrize(("real", "generated"), [(5, 10), (10, 0)])
def test_too_few_points_are_refused(real, generated):
    with pytest.raises(ValueError, match="more than 5 real points and a generated one"):
        coverage(normal(real, 2, 0), normal(generated, 2, 1))
