import gc
import weakref
from pathlib import Path

import pytest

from memory_server import overwriting
from memory_server.overwriting import Overwriting

WHOLE = 256 << 10
LOOKS = 6
"""So many that nothing has happened for long enough."""


@pytest.fixture
def switched(monkeypatch):
    """How the allocator was switched, in turn."""
    calls: list[bool] = []
    monkeypatch.setattr(overwriting.allocator, "switch", calls.append)
    return calls


@pytest.fixture
def connected(monkeypatch):
    """What is connected: (peer, number of the connection)."""
    now: set[tuple[str, int]] = set()

    class Present:
        all = property(lambda self: {n for _, n in now})

        def of(self, peer):
            return {n for who, n in now if who == peer}

    monkeypatch.setattr(overwriting, "Connections", Present)
    return now


def looked(state: Overwriting, times: int) -> bool:
    """Whether it is on after so many looks."""
    for _ in range(times):
        state.look()
    return state.on


def upload(state: Overwriting, *sizes: int, peer: str = "teacher") -> None:
    with state.call(peer) as received:
        for size in sizes:
            received.message(size)
        received.whole()


def test_it_is_on_from_the_announcement_of_a_call_until_long_after_its_end(switched, connected):
    state = Overwriting(able=True)
    assert not looked(state, LOOKS)
    assert switched == []
    state.announced()
    assert switched == [True]
    assert looked(state, LOOKS - 1)
    with state.call("teacher") as received:
        assert looked(state, 10 * LOOKS)
        received.message(WHOLE)
        received.whole()
    assert looked(state, LOOKS - 1)
    with state.call("other") as received, state.call("third") as its:
        received.pushed_out = its.pushed_out = True
    assert looked(state, LOOKS - 1)
    assert not looked(state, 1)
    assert switched == [True, False]
    assert not looked(state, LOOKS)
    state.announced()
    assert looked(state, LOOKS - 1)
    assert not looked(state, 1)
    assert switched == [True, False] * 2


@pytest.mark.parametrize("able", [True, False])
def test_it_is_complete_only_where_the_allocator_is_able_to(able, switched, connected):
    state = Overwriting(able)
    assert not state.complete
    state.announced()
    assert (state.on, state.complete, switched) == (True, able, [True])


def test_two_calls_at_a_time_are_both_waited_for(switched, connected):
    state = Overwriting(able=True)
    with state.call("one") as first:
        with state.call("other") as second:
            second.pushed_out = True
        assert looked(state, 2 * LOOKS)
        first.pushed_out = True
    assert not looked(state, LOOKS)


@pytest.mark.parametrize("sizes", [(), (WHOLE,), (WHOLE, WHOLE - 1)], ids=["nothing", "broken off", "ends with data"])
def test_a_connection_that_may_keep_data_is_waited_for(sizes, switched, connected):
    state = Overwriting(able=True)
    connected |= {("teacher", 1), ("reader", 2)}
    if sizes[-1:] == (WHOLE,):
        with pytest.raises(ConnectionError), state.call("teacher") as received:
            received.message(WHOLE)
            raise ConnectionError
    else:
        upload(state, *sizes)
    assert looked(state, 10 * LOOKS)
    connected.remove(("teacher", 1))
    assert looked(state, LOOKS - 1)
    assert not looked(state, 1)


def test_a_connection_whose_last_message_was_no_data_is_not(switched, connected):
    state = Overwriting(able=True)
    connected.add(("teacher", 1))
    upload(state, 1 << 20, 70_000, WHOLE)
    assert not looked(state, LOOKS)


def test_what_refers_to_itself_is_freed_before_it_goes_off(monkeypatch, connected):
    class Data:
        pass

    def noted(on: bool) -> None:
        freed.append((on, known() is None))

    freed: list[tuple[bool, bool]] = []
    monkeypatch.setattr(overwriting.allocator, "switch", noted)
    state = Overwriting(able=True)
    gc.disable()
    try:
        data = Data()
        data.itself = data
        known = weakref.ref(data)
        del data
        assert known() is not None
        state.announced()
        looked(state, LOOKS)
    finally:
        gc.enable()
    assert freed == [(True, False), (False, True)]


def test_a_later_upload_pushes_out_what_an_earlier_one_of_the_same_peer_left(switched, connected):
    state = Overwriting(able=True)
    connected |= {("teacher", 1), ("other", 2)}
    upload(state, 1000)
    upload(state, 1000, peer="other")
    assert looked(state, LOOKS)
    upload(state, 1000, WHOLE)
    connected.remove(("other", 2))
    assert not looked(state, LOOKS)
    upload(state, 1000)
    upload(state, 1000, WHOLE)  # before a look
    assert not looked(state, LOOKS)
    upload(state, 1000, WHOLE)
    upload(state, 1000)
    assert looked(state, 2 * LOOKS)


def test_an_upload_beside_another_one_of_its_peer_pushes_out_nothing_but_itself(switched, connected):
    state = Overwriting(able=True)
    connected |= {("teacher", 1), ("other", 2)}
    with state.call("teacher") as broken:
        broken.message(1000)
        upload(state, 1000, WHOLE)
        upload(state, 1000, WHOLE, peer="other")
    assert looked(state, 2 * LOOKS)
    upload(state, 1000, WHOLE)
    assert not looked(state, LOOKS)
    with state.call("teacher") as first, state.call("teacher") as second:
        for received in (first, second):
            received.message(WHOLE)
            received.whole()
    assert not looked(state, LOOKS)


def test_where_peers_have_no_names_nothing_is_taken_for_pushed_out_unless_there_is_one(switched, connected):
    state = Overwriting(able=True)
    connected |= {("unix:", 1), ("unix:", 2)}
    upload(state, 1000, peer="unix:")
    upload(state, 1000, WHOLE, peer="unix:")
    assert looked(state, 2 * LOOKS)
    upload(state, 1000, WHOLE, peer="unix:")
    assert looked(state, 2 * LOOKS)
    connected.remove(("unix:", 1))
    assert looked(state, 2 * LOOKS)
    upload(state, 1000, WHOLE, peer="unix:")
    assert not looked(state, LOOKS)


def test_where_no_descriptor_is_left_to_look_with_it_stays_on(switched, connected, monkeypatch):
    state = Overwriting(able=True)
    connected.add(("teacher", 1))
    upload(state, 1000)
    with monkeypatch.context() as patched:
        patched.setattr(overwriting, "Connections", lambda: next(Path("/none").iterdir()))
        assert looked(state, 2 * LOOKS)
    assert looked(state, 2 * LOOKS)
    connected.clear()
    assert not looked(state, LOOKS)
