"""How many streams a client may have open, and how long it is told to wait."""

from contextlib import ExitStack

import pytest

from memory_server.errors import ClientLimit
from memory_server.security.streams import OpenStreams


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def streams(now):
    return OpenStreams(2, clock=lambda: now[0])


def test_a_client_at_its_limit_stops_no_other(streams):
    with streams.one_more("flood"), streams.one_more("flood"):
        with pytest.raises(ClientLimit, match="flood has 2 streams open, the most for one client"):
            streams.one_more("flood").__enter__()
        with streams.one_more("other"):
            pass
    with streams.one_more("flood"):
        pass


def refused_for(streams):
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(streams.one_more("flood"))
        with pytest.raises(ClientLimit) as caught:
            streams.one_more("flood").__enter__()
    return caught.value.retry_after


@pytest.mark.parametrize("seconds", [10.0, 400.0])
def test_the_delay_follows_from_how_fast_streams_end(streams, now, seconds):
    for _ in range(30):
        with streams.one_more("anybody"):
            now[0] += seconds
    assert refused_for(streams) == pytest.approx(seconds / 2, rel=0.01)


def test_streams_that_last_longer_than_any_before_are_expected_to_go_on(streams, now):
    with streams.one_more("flood"), streams.one_more("flood"):
        now[0] = 1000.0
        with pytest.raises(ClientLimit) as caught:
            streams.one_more("flood").__enter__()
        assert caught.value.retry_after == 500.0
