"""Rows that were made along with others: each is given once, for what it is, and there is an end to them."""

from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_server.sampling.formats import Form
from memory_server.sampling.plan import TILE_ROWS, Blended, Reduced, Run, Tile
from memory_server.sampling.stock import STALE_SECONDS, Stock

FORM = Form((1, 2, 2), "uint8", "NCHW")
OTHER = Form((1, 2, 2), "float32", "NCHW")
FORMS = {FORM: np.uint8, OTHER: np.float32}


def tile(expert, *runs):
    """A tile of runs (class index, rows)."""
    rows = sum(count for _, count in runs)
    return Tile(expert, tuple(Run(0, index, index, range(count)) for index, count in runs), np.arange(rows))


def rows_of(expert, c, first, form=FORM):
    """Rows that say what they are: their class, and numbers that no others have."""
    x = np.zeros((len(c), *form.shape), FORMS[form])
    x[:, 0, 0, 0], x[:, 0, 0, 1] = c, ord(expert)
    x[:, 0, 1] = np.stack(np.divmod(first + np.arange(len(c)), 250), axis=1)
    return x


def put(stock, expert, c, first=0, form=FORM):
    stock.put(expert, form, np.array(c), rows_of(expert, c, first, form), stock.forgotten)


def job(spare, form=FORM):
    return Mock(spare=spare, form=form)


def test_a_tile_has_its_classes_in_the_order_of_its_runs():
    stock = Stock()
    put(stock, "a", [0, 1, 0, 1, 1])
    found = stock.take(tile("a", (1, 1), (0, 2), (1, 2)), FORM)
    assert found[:, 0, 0, 0].tolist() == [1, 0, 0, 1, 1]
    assert len({row.tobytes() for row in found}) == 5
    assert stock.nbytes == 0


@pytest.mark.parametrize("wanted", [tile("a", (0, 4)), tile("a", (0, 2), (0, 2)), tile("a", (1, 1)), tile("b", (0, 1))])
def test_a_tile_of_which_a_row_is_missing_is_not_begun(wanted):
    stock = Stock()
    put(stock, "a", [0, 0, 0])
    assert stock.take(wanted, FORM) is None
    assert stock.take(tile("a", (0, 1)), OTHER) is None
    assert len(stock.take(tile("a", (0, 3)), FORM)) == 3


actions = st.one_of(
    st.tuples(
        st.just("put"), st.sampled_from("ab"), st.lists(st.integers(0, 2), max_size=9), st.sampled_from([*FORMS])
    ),
    st.tuples(
        st.just("take"),
        st.sampled_from("ab"),
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=3),
        st.sampled_from([*FORMS]),
    ),
    st.tuples(st.just("forget"), st.sampled_from("ab"), st.none(), st.none()),
)


@given(st.lists(actions, max_size=40))
def test_every_row_is_given_once_for_what_it_is_within_the_capacity(steps):
    stock, first, given_rows, forgotten = Stock(capacity=200), 0, set(), {}
    for action, expert, what, form in steps:
        if action == "put":
            put(stock, expert, what, first, form)
            first += len(what)
        elif action == "forget":
            stock.forget([expert])
            forgotten[expert] = first
        elif (found := stock.take(tile(expert, *what), form)) is not None:
            assert found.dtype == FORMS[form]
            assert found[:, 0, 0, 0].tolist() == [index for index, count in what for _ in range(count)]
            assert set(found[:, 0, 0, 1].tolist()) == {ord(expert)}
            numbers = [int(high) * 250 + int(low) for high, low in found[:, 0, 1].tolist()]
            assert given_rows.isdisjoint(numbers) and len(set(numbers)) == len(numbers)
            assert min(numbers) >= forgotten.get(expert, 0)
            given_rows.update(numbers)
        assert 0 <= stock.nbytes <= stock.capacity
    stock.clear()
    assert stock.nbytes == 0
    assert all(
        stock.take(tile(expert, (index, 1)), form) is None for expert in "ab" for index in range(3) for form in FORMS
    )


@pytest.mark.parametrize("drop", [lambda stock: stock.forget(["b"]), Stock.clear], ids=["forget", "clear"])
def test_what_was_being_made_when_something_was_forgotten_is_not_kept(drop):
    stock = Stock()
    before = stock.forgotten
    drop(stock)
    stock.put("a", FORM, np.zeros(3, int), rows_of("a", [0] * 3, 0), before)
    assert stock.nbytes == 0
    put(stock, "a", [0])
    assert stock.nbytes == FORM.nbytes


def test_of_an_expert_that_is_forgotten_rows_of_either_precision_are_dropped():
    stock = Stock()
    for expert in ("a", Reduced("a"), "b", Reduced("b")):
        stock.put(expert, FORM, np.zeros(2, int), rows_of("a", [0, 0], 0), stock.forgotten)
    stock.forget(["a"])
    assert stock.take(tile("a", (0, 1)), FORM) is stock.take(tile(Reduced("a"), (0, 1)), FORM) is None
    assert len(stock.take(tile("b", (0, 2)), FORM)) == len(stock.take(tile(Reduced("b"), (0, 2)), FORM)) == 2
    assert Blended not in {type(kind[0]) for kind in stock._kept}


def test_how_much_is_made_differs_from_time_to_time():
    stock = Stock()
    spare = [stock.spare(job(TILE_ROWS)) for _ in range(300)]
    assert min(spare) >= TILE_ROWS // 4
    assert max(spare) <= TILE_ROWS
    assert len(set(spare)) > 20
    assert {stock.spare(job(0)) for _ in range(10)} == {0}


def test_a_full_stock_takes_no_more_until_something_in_it_is_stale():
    now = [0.0]
    stock = Stock(capacity=TILE_ROWS * FORM.nbytes + 10 * FORM.nbytes, clock=lambda: now[0])
    put(stock, "a", [0] * 70)
    now[0] = 1.0
    put(stock, "b", [0] * 20)
    assert stock.nbytes == 74 * FORM.nbytes
    now[0] = STALE_SECONDS - 0.1
    assert stock.spare(job(TILE_ROWS)) == 0
    assert stock.take(tile("b", (0, 1)), FORM) is not None
    assert stock.spare(job(TILE_ROWS)) <= 1
    now[0] = STALE_SECONDS + 0.1
    assert stock.spare(job(TILE_ROWS)) >= TILE_ROWS // 4, "nobody has wanted those of a"
    assert stock.take(tile("a", (0, 1)), FORM) is None
    assert stock.take(tile("b", (0, 3)), FORM) is not None


def test_what_is_kept_holds_on_to_nothing_around_it():
    stock, made = Stock(), rows_of("a", [0, 1] * 50, 0)
    stock.put("a", FORM, np.array([0, 1] * 50), made, stock.forgotten)
    found = stock.take(tile("a", (0, 2)), FORM)
    assert not np.shares_memory(found, made)
    assert all(rows.base is None for pile in stock._kept.values() for rows in pile._rows if len(rows) == 50)
