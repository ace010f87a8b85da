import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory_server.sampling.plan import Plan, Source
from memory_server.sampling.wanted import Wanted

wanted_batches = st.builds(Wanted, first=st.integers(0, 40), stride=st.integers(1, 9))
plans = st.builds(
    lambda classes, **fields: Plan(
        tuple(range(classes)), tuple((Source(f"expert-{c // 2}", c % 2, 1),) for c in range(classes)), seed=1, **fields
    ),
    classes=st.integers(1, 12),
    batch_size=st.integers(1, 300),
    n=st.integers(1, 900),
    segment_rows=st.sampled_from([8, 64, 100, 400]),
)


@given(wanted=wanted_batches, batch=st.integers(0, 100))
def test_the_next_batch_that_is_wanted_is_the_first_of_them_all_from_there(wanted, batch):
    all_of_them = range(wanted.first, 1000, wanted.stride)
    assert wanted.after(batch) == next(one for one in all_of_them if one >= batch)


@given(wanted=wanted_batches, plan=plans, number=st.integers(0, 30))
def test_a_part_has_the_rows_of_the_wanted_batches_and_every_tile_that_holds_one(wanted, plan, number):
    segment = plan.segment(number)
    part = wanted.part(segment, plan.batch_size)

    batches = [(segment.row + place) // plan.batch_size for place in range(len(segment.y))]
    mine = {place for place, batch in enumerate(batches) if batch in range(wanted.first, 10**6, wanted.stride)}
    assert part.rows.tolist() == sorted(mine)
    assert list(part.segment.tiles) == [tile for tile in segment.tiles if mine & set(tile.places.tolist())]
    if mine:
        assert part.position == segment.row + min(mine)
        assert np.array_equal(part.of(segment.y), segment.y[sorted(mine)])


def test_what_lies_side_by_side_is_not_copied():
    segment = Plan((0,), ((Source("e", 0, 1),),), 64, None, 0, 64).segment(3)
    part = Wanted(3).part(segment, 64)
    assert np.shares_memory(part.of(segment.y), segment.y)
