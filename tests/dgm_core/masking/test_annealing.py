import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.masking.annealing import Annealing, global_slope, local_slope


def test_the_global_slope_rises_from_its_reciprocal_to_its_maximum():
    assert global_slope(1, 10, 100.0) == pytest.approx(0.01)
    assert global_slope(10, 10, 100.0) == pytest.approx(100.0)


def test_the_local_slope_starts_every_epoch_soft():
    assert local_slope(1, 5, 50.0) == pytest.approx(0.02)
    assert local_slope(5, 5, 50.0) == pytest.approx(50.0)


def test_an_epoch_whose_slope_is_below_one_has_nothing_to_rise_to():
    assert {local_slope(b, 5, 0.01) for b in range(1, 6)} == {0.01}


@given(st.integers(1, 500), st.integers(1, 40), st.booleans())
def test_every_slope_lies_between_the_ends(steps, epochs, local):
    annealing = Annealing(steps, epochs, s_max=1e3, local=local)
    assert all(1e-3 * 0.99 <= annealing.slope(i) <= 1e3 * 1.01 for i in range(steps))


@given(st.integers(2, 40), st.integers(0, 19))
def test_the_last_step_has_the_largest_slope(epochs, rest):
    steps = 20 * epochs + rest
    assert Annealing(steps, epochs, s_max=1e4).slope(steps - 1) == pytest.approx(1e4)


def test_global_annealing_is_constant_within_an_epoch():
    annealing = Annealing(40, 4, s_max=1e4, local=False)
    assert {annealing.slope(i) for i in range(10, 20)} == {annealing.slope(10)}
