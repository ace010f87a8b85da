"""What is made while nothing is waited for: what requests have asked for more than once, and no more than they take."""

from collections import Counter
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_server.sampling.foresight import MOST_HABITS, READY_BYTES, READY_REQUESTS, Foresight, Order
from memory_server.sampling.formats import Form
from memory_server.sampling.plan import TILE_ROWS, Reduced, Run, Tile
from memory_server.sampling.stock import STALE_SECONDS, Stock

FORM = Form((1, 2, 2), "uint8", "NCHW")
LARGE = Form((READY_BYTES // 400,), "float32")


class Device:
    """Carries out what a foresight orders, as a pool whose device is idle does."""

    def __init__(self, capacity=1 << 20):
        self.now = 0.0
        self.stock = Stock(capacity, self.clock)
        self.loaded = set("abc") | {Reduced("a")}
        self.foresight = Foresight(self.stock, lambda key: key in self.loaded, self.clock)

    def clock(self):
        return self.now

    def request(self, *tiles, form=FORM, exact=False, urgent=True, memory="m"):
        """Somebody asks for tiles (expert, rows of each class), and takes what is in stock; how many were."""
        made = [tile(expert, *rows) for expert, *rows in tiles]
        self.foresight.note(job(made, form, exact, urgent, memory))
        return sum(self.stock.take(each, form) is not None for each in made)

    def idle(self, most=1000):
        """Makes what is wanted; the orders."""
        orders = []
        while (order := self.foresight.next()) is not None:
            orders.append(order)
            assert len(orders) <= most, "it never ends"
            self.carry_out(order)
        return orders

    def carry_out(self, order):
        x = np.zeros((len(order.c), *order.form.shape), np.uint8)
        self.stock.put(order.expert, order.form, order.c, x, self.stock.forgotten)
        self.foresight.made(order)

    def ready(self, expert="a", form=FORM):
        return {index: rows for index in range(4) if (rows := self.stock.count(expert, index, form))}


def tile(expert, *rows):
    runs = tuple(Run(0, index, index, range(count)) for index, count in enumerate(rows) if count)
    return Tile(expert, runs, np.arange(sum(rows)))


def job(tiles, form, exact, urgent, memory):
    return Mock(segment=Mock(tiles=tiles), form=form, exact=exact, urgent=urgent, memory=memory)


def test_what_was_asked_for_once_is_not_made_ahead():
    device = Device()
    device.request(("a", 64))
    assert device.idle() == []


def test_the_longer_somebody_goes_on_asking_the_more_is_ready_up_to_an_end():
    device, ready = Device(), []
    for number in range(READY_REQUESTS + 5):
        found = device.request(("a", 40, 24))
        assert found == (number > 1)
        assert all(len(order.c) <= TILE_ROWS for order in device.idle())
        ready.append(device.ready())
    assert ready[:4] == [{}, {0: 40, 1: 24}, {0: 80, 1: 48}, {0: 120, 1: 72}]
    assert ready[-1] == ready[READY_REQUESTS + 1] == {0: 40 * READY_REQUESTS, 1: 24 * READY_REQUESTS}


@pytest.mark.parametrize("kind", [{"exact": True}, {"urgent": False}])
def test_what_has_a_seed_or_runs_ahead_of_its_reader_by_itself_has_nothing_made(kind):
    device = Device()
    for _ in range(3):
        device.request(("a", 64), **kind)
    assert device.idle() == []


def test_few_rows_are_made_when_many_of_them_are_missing():
    device = Device()
    for _ in range(READY_REQUESTS + 1):
        device.request(("a", 6))
        device.idle()
    assert 3 * READY_REQUESTS < device.ready()[0] <= 6 * READY_REQUESTS
    made = []
    for _ in range(2 * READY_REQUESTS):
        assert device.request(("a", 6)) == 1
        made += [len(order.c) for order in device.idle()]
    assert min(made) >= 3 * READY_REQUESTS, "half of what is to be ready"
    assert sum(made) >= 6 * READY_REQUESTS


def test_of_an_expert_that_is_not_loaded_nothing_is_made_until_it_is():
    device = Device()
    for expected in ({}, {}, {0: 2 * 64}):
        device.loaded = {"a"} if expected else set()
        device.request(("a", 64))
        device.idle()
        assert device.ready() == expected


def test_who_comes_back_after_a_pause_begins_anew():
    device = Device()
    for _ in range(3):
        device.request(("a", 64))
    device.now += STALE_SECONDS + 0.1
    assert device.idle() == [], "nobody has asked for so long"
    device.request(("a", 64))
    assert device.idle() == []
    device.request(("a", 64))
    assert len(device.idle()) == 1


def test_requests_of_several_kinds_have_their_turns():
    device = Device()
    for _ in range(3):
        device.request(("a", 64), ("b", 64))
        device.request((Reduced("a"), 64))
    assert [order.expert for order in device.idle()] == ["a", "b", Reduced("a")] * 2


def test_of_what_an_order_is_under_way_for_no_second_one_is_given():
    device = Device()
    for _ in range(3):
        device.request(("a", 48))
    orders = [device.foresight.next(), device.foresight.next(), device.foresight.next()]
    assert [order and len(order.c) for order in orders] == [64, None, None], "32 more are too few for a pass"
    device.request(("a", 48))
    second = device.foresight.next()
    assert len(second.c) == 64
    device.carry_out(orders[0])
    device.carry_out(second)
    assert device.ready() == {0: 128}


def test_what_cannot_be_made_is_not_tried_for_ever():
    device = Device()
    for _ in range(3):
        device.request(("a", 64))
    device.foresight.made(device.foresight.next(), well=False)
    assert device.idle() == []


def test_what_is_forgotten_is_made_no_more():
    device = Device()
    for _ in range(3):
        device.request(("a", 64), (Reduced("a"), 64), ("b", 64))
    under_way = device.foresight.next()
    device.foresight.forget(frozenset("a"))
    device.foresight.made(under_way)
    assert {order.expert for order in device.idle()} == {"b"}


def test_the_bytes_that_are_ready_of_an_expert_have_an_end():
    device = Device(capacity=1 << 40)
    for _ in range(READY_REQUESTS):
        device.request(("a", 40), form=LARGE)
    goal = next(iter(device.foresight._habits.values())).goal(LARGE.nbytes)
    assert goal == {0: 80}
    assert 80 * LARGE.nbytes <= READY_BYTES
    for _ in range(3):
        device.request(("b", 101), form=LARGE)
    assert all(order.expert == "a" for order in device.idle()), "one request of b is more than may be ready"


def test_a_full_stock_has_nothing_made_for_it():
    device = Device(capacity=100 * FORM.nbytes)
    for _ in range(4):
        device.request(("a", 64))
    assert len(device.idle()) == 1
    assert device.stock.nbytes == 64 * FORM.nbytes


def test_of_more_kinds_than_can_be_remembered_the_oldest_are_not():
    device = Device()
    device.loaded = {str(number) for number in range(MOST_HABITS + 2)}
    for _ in range(2):
        for number in range(MOST_HABITS + 1):
            device.request((str(number), 1))
    assert len(device.foresight._habits) == MOST_HABITS
    assert device.idle() == [], "each was dropped before it came again"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["request", "request", "idle", "one", "forget"]),
            st.sampled_from("ab"),
            st.lists(st.integers(0, 40), min_size=1, max_size=3).filter(any),
            st.floats(0, STALE_SECONDS),
        ),
        max_size=60,
    )
)
def test_whatever_is_asked_for_making_ahead_ends_and_is_never_more_than_was_asked_for(steps):
    device, most = Device(capacity=1500 * FORM.nbytes), {"a": Counter(), "b": Counter()}
    for action, expert, rows, seconds in steps:
        device.now += seconds / 20
        if action == "request":
            device.request((expert, *rows))
            most[expert] |= Counter(dict(enumerate(rows)))
        elif action == "idle":
            device.idle()
        elif action == "forget":
            device.foresight.forget(frozenset(expert))
            device.stock.forget([expert])
            assert device.ready(expert) == {}
        elif (order := device.foresight.next()) is not None:
            assert isinstance(order, Order)
            device.carry_out(order)
        for each, asked in most.items():
            for index, count in device.ready(each).items():
                assert count <= asked[index] * READY_REQUESTS
    assert device.stock.nbytes <= device.stock.capacity
