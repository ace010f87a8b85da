from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.manifest import DataSpec, ExpertEntry, Manifest, TaskEntry
from memory_server.errors import EmptyMemory, UnknownClass, UnknownTask
from memory_server.sampling import noise
from memory_server.sampling.plan import TILE_ROWS, Plan, Source, segment_rows, sources_of, split

weights = st.lists(st.integers(1, 1000), min_size=1, max_size=5)


def plan_of(classes=3, batch_size=10, n=None, seed=0, segment=64, experts=1):
    sources = tuple(
        tuple(Source(f"expert-{c // 2}-{copy}", c % 2, 1 + copy) for copy in range(experts)) for c in range(classes)
    )
    return Plan(tuple(range(classes)), sources, batch_size, n, seed, segment)


plans = st.builds(
    plan_of,
    classes=st.integers(1, 12),
    batch_size=st.integers(1, 300),
    n=st.integers(1, 900),
    seed=st.integers(0, 2**64 - 1),
    segment=st.sampled_from([8, 64, 100, 400]),
    experts=st.integers(1, 3),
)


def segments(plan):
    number = 0
    while len((segment := plan.segment(number)).y):
        yield segment
        number += 1


def spread(labels, classes):
    counts = np.bincount(labels, minlength=classes)
    return counts.max() - counts.min()


@given(plan=plans)
def test_every_batch_and_the_total_are_balanced_over_the_classes(plan):
    labels = np.concatenate([segment.y for segment in segments(plan)])
    assert len(labels) == plan.n
    assert spread(labels, len(plan.classes)) <= 1
    for first in range(0, plan.n, plan.batch_size):
        assert spread(labels[first : first + plan.batch_size], len(plan.classes)) <= 1


@given(plan=plans)
def test_the_rows_of_the_segments_follow_each_other_without_gap(plan):
    row = 0
    for segment in segments(plan):
        assert segment.row == row
        assert 0 < len(segment.y) <= plan.segment_rows
        row += len(segment.y)
    assert row == plan.n


@given(plan=plans, data=st.data())
def test_a_batch_is_found_in_the_segment_that_it_begins_in(plan, data):
    batch = data.draw(st.integers(0, (plan.n - 1) // plan.batch_size))
    number = plan.find(batch)
    segment = plan.segment(number)
    assert 0 <= batch * plan.batch_size - segment.row < len(segment.y)
    assert {row // plan.batch_size for row in range(segment.row, segment.row + len(segment.y))} <= set(
        plan.batches(number)
    )


@given(plan=plans)
def test_the_tiles_of_a_segment_cover_each_of_its_rows_once_with_the_right_class(plan):
    for segment in segments(plan):
        places = np.concatenate([tile.places for tile in segment.tiles])
        assert sorted(places) == list(range(len(segment.y)))
        for tile in segment.tiles:
            labels = [run.label for run in tile.runs for _ in run.rows]
            assert [plan.classes[index] for index in segment.y[tile.places]] == labels


@given(plan=plans)
def test_the_rows_of_a_tile_are_of_the_batches_that_they_are_placed_in(plan):
    for segment in segments(plan):
        for tile in segment.tiles:
            batches = [run.batch for run in tile.runs for _ in run.rows]
            assert batches == ((segment.row + tile.places) // plan.batch_size).tolist()


@given(plan=plans)
def test_a_tile_is_of_one_expert_and_of_a_few_sizes(plan):
    for segment in segments(plan):
        for tile in segment.tiles:
            assert 1 <= len(tile.places) <= tile.padded < len(tile.places) + 8
            assert tile.padded in range(8, TILE_ROWS + 1, 8)


@given(plan=plans)
def test_the_noise_of_a_class_in_a_batch_is_used_from_its_first_row_on_and_each_row_once(plan):
    used: dict[tuple[int, int], list[int]] = {}
    for segment in segments(plan):
        for run in (run for tile in segment.tiles for run in tile.runs):
            used.setdefault((run.batch, run.label), []).extend(run.rows)
    assert all(sorted(rows) == list(range(len(rows))) for rows in used.values())
    assert sum(map(len, used.values())) == plan.n


@given(plan=plans)
def test_a_segment_is_a_function_of_the_plan(plan):
    one, other = plan.segment(0), replace(plan).segment(0)
    assert np.array_equal(one.y, other.y)
    assert [tile.runs for tile in one.tiles] == [tile.runs for tile in other.tiles]
    assert all(np.array_equal(a.places, b.places) for a, b in zip(one.tiles, other.tiles, strict=True))


def test_small_batches_share_tiles():
    plan = plan_of(classes=10, batch_size=16, segment=64)
    assert [len(tile.places) for tile in plan.segment(0).tiles] == [14, 14, 12, 12, 12]


def test_labels_are_mixed_within_a_batch():
    y = plan_of(classes=2, batch_size=64).segment(0).y[:64]
    assert 10 < np.count_nonzero(np.diff(y)) < 54
    assert not np.array_equal(y, plan_of(classes=2, batch_size=64).segment(1).y[:64])
    assert not np.array_equal(y, plan_of(classes=2, batch_size=64, seed=1).segment(0).y[:64])


def test_an_endless_plan_has_batches_for_ever():
    plan = plan_of(n=None)
    assert plan.rows_of(10**9) == plan.batch_size
    assert len(plan.segment(10**9).y) > 0


def test_a_batch_after_the_last_is_empty():
    plan = plan_of(batch_size=10, n=25)
    assert [plan.rows_of(batch) for batch in range(4)] == [10, 10, 5, 0]


@given(shares=weights, rows=st.integers(0, 200), data=st.data())
def test_rows_are_split_over_experts_in_proportion_to_what_they_learned_from(shares, rows, data):
    sources = [Source(str(index), 0, weight) for index, weight in enumerate(shares)]
    offset = data.draw(st.integers(0, sum(shares) - 1))
    got = {source.expert: len(part) for source, part in split(sources, rows, offset)}
    assert sum(got.values()) == rows
    for source in sources:
        assert abs(got.get(source.expert, 0) - rows * source.weight / sum(shares)) < 1


@given(shares=weights, rows=st.integers(1, 20))
def test_over_all_offsets_the_split_is_exactly_in_proportion(shares, rows):
    sources = [Source(str(index), 0, weight) for index, weight in enumerate(shares)]
    counts: Counter[str] = Counter()
    for offset in range(sum(shares)):
        counts.update({source.expert: len(part) for source, part in split(sources, rows, offset)})
    assert all(counts[source.expert] == rows * source.weight for source in sources)


def test_nothing_is_drawn_for_a_class_with_one_expert(monkeypatch):
    shared = plan_of(classes=3, experts=2, batch_size=64)
    alone = plan_of(classes=3, experts=1, batch_size=64)
    monkeypatch.setattr(noise, "below", None)
    assert sum(len(tile.places) for tile in alone.segment(0).tiles) == len(alone.segment(0).y)
    with pytest.raises(TypeError):
        shared.segment(0)


def test_rows_of_one_class_are_shared_by_its_experts_over_the_batches():
    plan = plan_of(classes=1, batch_size=1, n=400, experts=2)
    counts: Counter[str] = Counter()
    for segment in segments(plan):
        counts.update({tile.expert: len(tile.places) for tile in segment.tiles})
    assert counts["expert-0-1"] == pytest.approx(400 * 2 / 3, abs=40)


@pytest.mark.parametrize(("shape", "rows"), [((1, 8, 8), 1024), ((3, 64, 64), 85), ((65536,), 16)])
def test_a_segment_is_bounded_in_rows_and_in_elements(shape, rows):
    assert segment_rows(DataSpec(shape, "uint8" if len(shape) == 3 else "float32")) == rows


@pytest.fixture
def manifest():
    def entry(task, *experts):
        return TaskEntry(task, "b" * 64, tuple(experts), quality=1.0, steps=1, seconds=1.0)

    first = entry("t0", ExpertEntry("e0", ("cat", "dog"), (30, 10)))
    second = entry("t1", ExpertEntry("e1", ("emu", "cat"), (5, 90)))
    return Manifest("dgmw", {"seed": "1"}, DataSpec((1, 8, 8), "uint8"), revision=2, tasks=(first, second))


def test_a_class_taught_twice_has_two_experts(manifest):
    classes, sources = sources_of(manifest, "m", (), ())
    assert classes == ("cat", "dog", "emu")
    assert sources[0] == (Source("e0", 0, 30), Source("e1", 1, 90))


def test_classes_come_in_the_order_of_the_request(manifest):
    assert sources_of(manifest, "m", ("emu", "cat"), ())[0] == ("emu", "cat")


def test_tasks_restrict_the_experts(manifest):
    classes, sources = sources_of(manifest, "m", (), ("t1",))
    assert classes == ("emu", "cat")
    assert sources[1] == (Source("e1", 1, 90),)


def test_what_is_not_there_is_named_with_what_is(manifest):
    with pytest.raises(UnknownTask, match=r"'t0', 't1'"):
        sources_of(manifest, "m", (), ("t9",))
    with pytest.raises(UnknownClass, match=r"^memory 'm' has not learned class 'fox'; the classes are 'cat', 'dog'"):
        sources_of(manifest, "m", ("fox",), ())
    with pytest.raises(UnknownClass, match=r"^task 't1' has no class 'dog'; its classes are 'emu', 'cat'$"):
        sources_of(manifest, "m", ("dog",), ("t1",))
    with pytest.raises(UnknownClass, match=r"^tasks 't0', 't1' have no class 'fox'; their classes are 'cat', 'dog'"):
        sources_of(manifest, "m", ("fox",), ("t0", "t1"))
    with pytest.raises(EmptyMemory):
        sources_of(replace(manifest, tasks=()), "m", (), ())
