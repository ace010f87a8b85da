"""The budget of a deep generative memory: proportion to times seen, a least share, a most in all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.dual.budget import UNBOUNDED, Allotment, Budget, Incoming, represented

incoming = st.lists(st.builds(Incoming, st.integers(1, 5000), st.integers(1, 9)), min_size=1, max_size=6)
diverse = st.lists(
    st.builds(Incoming, st.integers(40, 5000), st.integers(1, 9), st.integers(1, 40)), min_size=1, max_size=6
)
dictionaries = st.dictionaries(st.text(max_size=3), st.integers(1, 9), max_size=12)
budgets = st.builds(Budget, st.integers(6, 20_000), st.floats(0, 1))


@given(budgets, diverse, dictionaries, st.integers(0, 200))
def test_never_more_than_the_capacity_but_for_one_of_each_new_class_nor_than_there_is(budget, new, seen, classes):
    allotment = budget.allot(new, seen, classes)
    assert sum(allotment.new) + allotment.old <= max(budget.capacity, sum(task.classes for task in new))
    assert all(task.classes <= n <= task.examples for n, task in zip(allotment.new, new, strict=True))
    assert allotment.old >= min(classes, budget.capacity - sum(allotment.new)) if seen else not allotment.old


@given(st.lists(st.tuples(st.floats(0.01, 9), st.integers(1, 500)), min_size=1, max_size=30), st.floats(0, 1))
def test_what_is_represented_adds_up_and_has_one_each_where_there_are_so_many(classes, share):
    weights, high = zip(*classes, strict=True)
    total = round(share * sum(high))
    counts = represented(total, weights, high)
    assert sum(counts) == total
    assert all(int(total >= len(high)) <= n <= most for n, most in zip(counts, high, strict=True))


@given(incoming, dictionaries)
def test_without_bounds_all_is_taken_and_every_task_has_as_much_of_the_rest_as_it_was_seen(new, seen):
    allotment = UNBOUNDED.allot(new, seen)
    assert allotment.new == tuple(task.examples for task in new)
    once = sum(allotment.new) / sum(task.times for task in new)
    assert allotment.old == pytest.approx(once * sum(seen.values()), abs=1)


@given(budgets, incoming, dictionaries)
def test_a_new_task_has_at_least_its_share_of_the_capacity_or_all_that_it_brings(budget, new, seen):
    fair = int(min(budget.least, 1 / len(new)) * budget.capacity)
    for n, task in zip(budget.allot(new, seen).new, new, strict=True):
        assert n >= min(task.examples, fair) - 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), dictionaries)
def test_shares_are_in_proportion_to_times_seen(times, seen):
    budget = Budget(100_000, 0.0)
    allotment = budget.allot([Incoming(100_000, each) for each in times], seen)
    everything = sum(times) + sum(seen.values())
    assert sum(allotment.new) + allotment.old == pytest.approx(100_000, abs=1)
    assert [n / 100_000 for n in allotment.new] == pytest.approx([each / everything for each in times], abs=1e-4)


@given(budgets, incoming, dictionaries)
def test_what_has_room_is_kept_whole_and_all_is_in_proportion_whatever_kappa_is(budget, new, seen):
    times, examples = sum(task.times for task in new), sum(task.examples for task in new)
    if examples * (times + sum(seen.values())) / times <= budget.capacity:
        allotment = budget.allot(new, seen)
        assert allotment.new == tuple(task.examples for task in new)
        assert allotment.old == pytest.approx(examples * sum(seen.values()) / times, abs=0.5)


@given(budgets, incoming, dictionaries)
def test_what_kappa_takes_from_the_old_tasks_the_new_ones_have(budget, new, seen):
    plain, raised = (each.allot(new, seen) for each in (Budget(budget.capacity, 0.0), budget))
    given_to_new = sum(raised.new) - sum(plain.new)
    assert given_to_new >= 0 and raised.old == max(0, plain.old - given_to_new)


def test_small_tasks_take_no_more_from_the_old_ones_than_they_bring():
    known = {str(t): 1 for t in range(100)}
    assert Budget(20_000, 0.05).allot([Incoming(100)] * 5, known) == Allotment((100,) * 5, 10_000)
    assert Budget(20_000, 0.05).allot([Incoming(400)] * 5, known) == Allotment((400,) * 5, 18_000)
    assert Budget(20_000, 0.05).allot([Incoming(20)], {str(t): 1 for t in range(40)}) == Allotment((20,), 800)


def test_a_full_memory_takes_fewer_of_the_old_and_never_too_few_of_the_new():
    """The published setting of the long sequence: 40 tasks, 5 a sleep, κ = 0.05 of 120 000."""
    budget = Budget(120_000, 0.05)
    new = [Incoming(6000)] * 5
    assert budget.allot(new, {}) == Allotment((6000,) * 5, 0)
    assert budget.allot(new, {str(t): 1 for t in range(15)}) == Allotment((6000,) * 5, 90_000)
    assert budget.allot(new, {str(t): 1 for t in range(35)}) == Allotment((6000,) * 5, 90_000)
    assert Budget(60_000, 0.05).allot(new, {str(t): 1 for t in range(35)}) == Allotment((3000,) * 5, 45_000)


def test_new_examples_are_left_out_where_they_would_take_more_than_their_share():
    assert Budget(1000, 0.01).allot([Incoming(5000)], {"a": 1}) == Allotment((500,), 500)
    assert Budget(1000, 0.01).allot([Incoming(5000, times=3), Incoming(100)], {"a": 1}) == Allotment((700, 100), 200)
