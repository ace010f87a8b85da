import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.evaluation.distances import kernel_distance, squared_mmd

SEEDS = st.integers(0, 2**31)


def normal(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def generator():
    return torch.Generator().manual_seed(0)


def by_definition(x, y):
    """Sums over pairs, written out."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def within(z):
        return sum(k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j) / (len(z) * (len(z) - 1))

    return within(x) + within(y) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


@given(SEEDS, st.integers(2, 7), st.integers(2, 7), st.integers(1, 4))
def test_squared_mmd_is_the_sum_over_pairs_of_its_definition(seed, m, n, d):
    x, y = normal(m, d, seed).double(), normal(n, d, seed + 1, 0.5).double()
    assert squared_mmd(x, y) == pytest.approx(by_definition(x, y), abs=1e-9)


@given(SEEDS, st.integers(2, 60), st.integers(2, 60), st.integers(1, 70))
def test_neither_order_nor_chunks_change_the_squared_mmd(seed, m, n, rows):
    x, y = normal(m, 5, seed), normal(n, 5, seed + 1)
    mixed = x[torch.randperm(m, generator=generator())]
    assert squared_mmd(mixed, y, rows) == pytest.approx(squared_mmd(x, y), abs=1e-9)
    assert squared_mmd(y, x) == pytest.approx(squared_mmd(x, y), abs=1e-9)


def test_squared_mmd_has_no_bias_however_small_the_sets():
    values = torch.tensor([squared_mmd(normal(8, 4, 2 * i), normal(8, 4, 2 * i + 1)) for i in range(600)])
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5


def test_samples_of_one_distribution_are_at_about_no_distance():
    near = kernel_distance(normal(2000, 16, 0), normal(2000, 16, 1), generator(), size=500)
    assert abs(near.value) < 0.01
    assert near.standard_error < 0.005


@given(SEEDS, st.floats(0.2, 1.0))
def test_a_larger_shift_is_a_larger_distance(seed, shift):
    x = normal(300, 8, seed)
    values = [squared_mmd(x, normal(300, 8, seed + 1, by)) for by in (0.0, shift, 2 * shift)]
    assert values == sorted(values)
    assert values[2] > 0


def test_a_dropped_mode_is_a_distance():
    modes = torch.cat([normal(500, 8, 0, -2), normal(500, 8, 1, 2)])
    again, one = torch.cat([normal(500, 8, 2, -2), normal(500, 8, 3, 2)]), normal(1000, 8, 4, 2)
    assert kernel_distance(modes, one, generator()).value > 100 * abs(kernel_distance(modes, again, generator()).value)


def test_the_same_generator_gives_the_same_estimate():
    x, y = normal(100, 4, 0), normal(80, 4, 1)
    assert kernel_distance(x, y, generator()) == kernel_distance(x, y, generator())


def test_more_subsets_make_the_error_smaller():
    x, y = normal(200, 4, 0), normal(200, 4, 1)
    few, many = (kernel_distance(x, y, generator(), subsets=n, size=50) for n in (10, 160))
    assert many.standard_error < few.standard_error / 2


@pytest.mark.parametrize(("rows", "subsets"), [(3, 50), (100, 1)])
def test_too_little_to_estimate_from_is_refused(rows, subsets):
    with pytest.raises(ValueError, match="4 rows of each set and 2 subsets"):
        kernel_distance(normal(rows, 4, 0), normal(100, 4, 1), generator(), subsets=subsets)
