"""Whose turn it is, and what is computed along with it."""

from collections import Counter
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import TILE_ROWS, Run, Segment, Tile
from memory_server.sampling.waiting import FEW_ROWS, MOST_EXPERTS, PASS_ROWS, URGENCY, Waiting
from memory_server.sampling.wanted import Part


def job(*tiles, exact=False, urgent=False, memory="m"):
    """A job of tiles (expert, rows)."""
    made = tuple(Tile(expert, (Run(0, 0, 0, range(rows)),), np.arange(rows)) for expert, rows in tiles)
    part = Part(Segment(0, np.zeros(1, np.int32), made), np.arange(1))
    return Job(memory, 1, exact, urgent, 0, part, Mock(), np.empty(0), Mock())


def as_long_as_rows(works):
    """Seconds of a pass, if that is what passes cost."""
    return sum(work.rows for work in works)


def computed(waiting, seconds=as_long_as_rows):
    """The next pass, and it is paid for."""
    works = waiting.take()
    waiting.charge(works, seconds(works))
    return works


def passes(waiting):
    """All passes that are left."""
    return list(iter(lambda: computed(waiting), []))


def served(waiting, streams, most, seconds=as_long_as_rows):
    """Seconds of the passes of each stream, which has its own, among the first so many that are computed."""
    names, counts = {id(job): name for name, jobs in streams.items() for job in jobs}, Counter()
    while sum(counts.values()) < most:
        works = computed(waiting, seconds)
        counts[names[id(works[0].job)]] += seconds(works)
    return counts


def one_form(key):
    return "form"


def spare_of(job):
    return job.spare


def submitted(form=one_form, **streams):
    waiting = Waiting(form, spare_of)
    for name, jobs in streams.items():
        for each in jobs:
            waiting.add(name, each, each.segment.tiles)
    return waiting


jobs = st.builds(
    lambda tiles, exact, urgent: job(*tiles, exact=exact, urgent=urgent),
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, TILE_ROWS)), min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(st.tuples(st.integers(0, 4), jobs), max_size=12), st.data())
def test_every_tile_is_computed_once_and_within_bounds(submissions, data):
    waiting, taken, due = Waiting(lambda key: key in "ab", spare_of), [], Counter()
    for stream, each in submissions:
        waiting.add(stream, each, each.segment.tiles)
        due.update((id(each), tile.expert, len(tile.places)) for tile in each.segment.tiles)
        for _ in range(data.draw(st.integers(0, 2))):
            taken.append(computed(waiting))
        assert waiting.tiles == due.total() - sum(map(len, taken))
    taken += passes(waiting)
    assert waiting.tiles == 0
    assert Counter((id(w.job), w.tile.expert, w.rows) for works in taken for w in works) == due
    for works in filter(None, taken):
        experts = {work.tile.expert for work in works}
        assert len(works) == 1 or not any(work.job.exact for work in works)
        assert len({work.key[1] in "ab" for work in works}) == 1
        for expert in experts:
            rows = sum(work.rows for work in works if work.tile.expert == expert)
            most = TILE_ROWS if works[0].job.urgent else PASS_ROWS
            assert rows <= (most if len(experts) == 1 else FEW_ROWS)
        assert len(experts) <= MOST_EXPERTS
    assert waiting.take() == []


def test_busy_streams_get_the_same_time_whatever_their_tiles():
    streams = {"small": [job(("a", 8), exact=True) for _ in range(100)], "large": [job(("b", 64)) for _ in range(20)]}
    counts = served(submitted(**streams), streams, 1200)
    assert abs(counts["small"] - counts["large"]) <= PASS_ROWS


def test_who_asks_for_what_takes_long_gets_half_of_the_time_and_not_of_the_rows():
    def seconds(works):
        return sum(work.rows * (100 if work.tile.expert == "dear" else 1) for work in works)

    streams = {
        "dear": [job(("dear", 1), exact=True) for _ in range(99)],
        "cheap": [job(("cheap", 64)) for _ in range(99)],
    }
    counts = served(submitted(**streams), streams, 6000, seconds)
    assert abs(counts["dear"] - counts["cheap"]) <= PASS_ROWS


def test_a_pass_of_several_streams_is_paid_for_by_the_rows_of_each():
    few = [job(("a", 8)), *(job(("b", 8), exact=True) for _ in range(9))]
    many = [job(("a", 56)), job(("c", 8), exact=True)]
    waiting = submitted(few=few, many=many)
    assert [work.job for work in computed(waiting, lambda works: 100 * 64)] == [few[0], many[0]]
    order = "".join(computed(waiting, lambda works: 100 * 8)[0].tile.expert for _ in range(8))
    assert order in ("bbbbbbcb", "bbbbbbbc")  # six of them later both are due


def test_what_two_threads_compute_for_a_stream_at_once_is_paid_for_in_full():
    waiting = submitted(s=[job(("a", 64), exact=True) for _ in range(3)])
    at_once = [waiting.take(), waiting.take()]
    late = job(("b", 64), ("b", 64), exact=True)
    waiting.add("t", late, late.segment.tiles)
    for works in at_once:
        waiting.charge(works, 100)
    assert "".join(computed(waiting, lambda works: 99)[0].tile.expert for _ in range(3)) == "bba"


def test_a_stream_that_comes_later_is_not_owed_the_past():
    first = [job(("a", 64), exact=True) for _ in range(20)]
    waiting = submitted(first=first)
    for _ in range(10):
        computed(waiting)
    second = [job(("b", 64), exact=True) for _ in range(10)]
    for each in second:
        waiting.add("second", each, each.segment.tiles)
    counts = served(waiting, {"first": first, "second": second}, 10 * 64)
    assert counts["first"] == counts["second"] == 5 * 64


def test_who_is_waited_for_comes_first_and_starves_nobody():
    waited = [job(("a", 64), exact=True, urgent=True) for _ in range(100)]
    streams = {"waited": waited, "ahead": [job(("b", 64), exact=True) for _ in range(9)]}
    counts = served(submitted(**streams), streams, 64 * 9 * 8)
    assert counts["waited"] == URGENCY * counts["ahead"]


@pytest.mark.parametrize(("urgent", "earlier"), [(True, 0), (False, 10)])
def test_a_newcomer_does_not_wait_behind_what_others_have_queued(urgent, earlier):
    waiting = submitted(**{f"s{i}": [job(("a", 64), exact=True) for _ in range(8)] for i in range(20)})
    for _ in range(30):
        computed(waiting)
    newcomer = job(("b", 64), urgent=urgent)
    waiting.add("newcomer", newcomer, newcomer.segment.tiles)
    assert newcomer in [work.job for _ in range(earlier + 1) for work in computed(waiting)]


def test_open_tiles_of_one_expert_are_computed_together_across_streams():
    for urgent, most in ((True, TILE_ROWS), (False, PASS_ROWS)):
        waiting = submitted(**{f"s{i}": [job(("a", 16), urgent=urgent)] for i in range(20)})
        sizes = [sum(work.rows for work in works) for works in passes(waiting)]
        assert sizes == [most] * (320 // most) + [320 % most] * (320 % most > 0)


def test_promised_tiles_are_computed_alone():
    waiting = submitted(**{f"s{i}": [job(("a", 8), exact=True)] for i in range(3)})
    assert [len(works) for works in passes(waiting)] == [1, 1, 1]


def test_few_rows_of_experts_alike_are_computed_together():
    tiles = [(f"e{i}", 2) for i in range(MOST_EXPERTS + 4)]
    assert [len(works) for works in passes(submitted(s=[job(*tiles)]))] == [MOST_EXPERTS, 4]


@pytest.mark.parametrize("form", [{"a": "x", "b": "y"}.get, {"a": "x"}.get], ids=["other", "not on the device"])
def test_experts_of_other_forms_are_not(form):
    assert [len(works) for works in passes(submitted(form, s=[job(("a", 2), ("b", 2))]))] == [1, 1]


def test_experts_of_other_memories_are_not():
    waiting = submitted(s=[job(("a", 2))], t=[job(("b", 2), memory="another"), job(("a", 2), memory="another")])
    assert [len(works) for works in passes(waiting)] == [1, 2]


def test_what_a_stream_has_waiting_goes_with_it():
    waiting = submitted(s=[job(("a", 2), ("b", 2))], t=[job(("a", 2))])
    assert waiting.tiles == 3
    waiting.drop("s")
    waiting.drop("never there")
    assert waiting.tiles == 1
    (works,) = passes(waiting)
    assert [work.key for work in works] == [("m", "a")]


def test_who_was_served_along_with_others_waits_for_it_later():
    s, t = job(("a", 32), urgent=True), job(("a", 32), ("a", 32), urgent=True)
    waiting = submitted(s=[s], t=[t], u=[job(("b", 32), ("b", 32), exact=True)])
    assert ["".join(work.tile.expert for work in works) for works in passes(waiting)] == ["aa", "b", "a", "b"]
