"""What is made along with what a reader needs, and what becomes of it."""

import asyncio
import os
import sys
import threading

import numpy as np
import pytest
import torch

from memory_server.sampling import passes
from memory_server.sampling.engine import SamplingEngine
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.formats import Form, Format
from memory_server.sampling.plan import TILE_ROWS
from memory_server.sampling.pool import TilePool
from memory_server.sampling.queries import SampleQuery
from memory_server.sampling.stock import STREAM_BYTES
from memory_server.sampling.stream import Rows, Stream
from memory_server.sampling.waiting import URGENCY
from memory_server.store.records import Deleted

PIXELS = Form((1, 8, 8), "uint8", "NCHW")


class Counting(ExpertCache):
    """Counts how often an expert is used."""

    def __init__(self, learned):
        revisions, blobs = learned
        super().__init__(lambda memory: revisions[-1], blobs, torch.device("cpu"), 1 << 30)
        self.used = 0

    def expert(self, memory, key):
        self.used += 1
        return super().expert(memory, key)


@pytest.fixture
def experts(six):
    return Counting(six)


@pytest.fixture
async def pool(experts, monkeypatch):
    monkeypatch.setattr("memory_server.sampling.stream.STALL_SECONDS", 60.0)
    pool = TilePool(experts, threads=2)
    yield pool
    pool.close()


@pytest.fixture
def stream_of(six, pool):
    def make(**query):
        newest = six[0][-1]
        return Stream(SampleQuery("m", **query), newest, lambda: newest, pool)

    return make


async def rows_of(reader, count=None):
    """x of each row of a stream, or of so many of one that goes on."""
    rows = []
    async for answer in reader:
        if isinstance(answer, Rows):
            rows += [row.tobytes() for part in answer.x for row in part]
        if count is not None and len(rows) >= count:
            break
    return rows


async def test_a_reader_that_reads_on_has_many_rows_made_at_a_time_and_each_of_them_once(
    stream_of, pool, experts, monkeypatch, eventually
):
    monkeypatch.setattr("memory_server.sampling.pool.STALE_SECONDS", 0.2)
    batches = 60
    stream = stream_of(batch_size=256, format=Format("float32"))
    reader = aiter(stream)
    rows = await rows_of(reader, batches * 256)
    assert len(set(rows)) == len(rows) >= batches * 256
    assert pool.stock.nbytes > 0
    used, stream_used = experts.used, len(rows) / (256 / 6)
    assert used < 0.9 * stream_used, "as many passes as there are tiles"
    pool.forget(stream)
    eventually(lambda: pool.stock.nbytes == 0)


@pytest.fixture
def asked(stream_of, pool):
    """The rows of a request, whose reader then leaves."""

    async def ask(**query):
        stream = stream_of(**query)
        rows = await rows_of(stream)
        pool.forget(stream)
        return rows

    return ask


@pytest.fixture
def stocked(six, pool):
    """The pool's stock with two rows of each expert, which no generator makes."""
    for number, (_, expert) in enumerate(six[0][-1].experts()):
        rows = np.full((2, *PIXELS.shape), 10 * number, np.uint8) + np.arange(2, dtype=np.uint8)[:, None, None, None]
        pool.stock.put(expert.digest, PIXELS, np.zeros(2, np.int64), rows, pool.stock.forgotten)
    return pool.stock


async def test_what_is_in_stock_costs_no_pass_and_is_of_its_class(stream_of, experts, stocked):
    for count in (6, 3):
        rows = await rows_of(stream_of(n=count))
        assert sorted(row[0] // 10 for row in rows) == list(range(count))
        assert all(row == bytes([row[0]]) * 64 and row[0] % 10 < 2 for row in rows)
    assert experts.used == 0
    assert stocked.nbytes == 3 * 64
    assert sorted(row[0] // 10 for row in await rows_of(stream_of(n=3, classes=(3, 4, 5)))) == [3, 4, 5]
    assert stocked.nbytes == 0


async def test_what_is_promised_is_none_of_it(stream_of, experts, stocked):
    seeded = await rows_of(stream_of(n=6, seed=3))
    assert experts.used == 6
    assert stocked.nbytes == 12 * 64
    stocked.clear()
    assert await rows_of(stream_of(n=6, seed=3)) == seeded


async def test_other_forms_and_precisions_are_none_of_it(stream_of, experts, stocked):
    await rows_of(stream_of(n=6, format=Format("float32")))
    await rows_of(stream_of(n=6, reduced=True))
    assert experts.used == 12
    assert stocked.nbytes == 12 * 64


async def test_what_is_in_stock_was_paid_for_when_it_was_made(stream_of, pool, stocked):
    stream = stream_of(n=6)
    await rows_of(stream)
    assert pool._waiting._turns[stream].due == 0


@pytest.mark.parametrize(("query", "part"), [({"n": 6}, 1 / URGENCY), ({"n": 2000, "seed": 1}, 1)])
async def test_a_stream_pays_for_the_time_of_its_passes_loading_included(query, part, six, experts):
    newest = six[0][-1]
    pool = TilePool(experts, threads=1, clock=lambda: 40 * experts.used)  # to look for an expert is all that takes time
    stream = Stream(SampleQuery("m", **query), newest, lambda: newest, pool)
    await rows_of(stream)
    pool.close()  # the last pass is over
    assert experts.used > 0
    assert pool._waiting._turns[stream].due == pytest.approx(40 * experts.used * part)


async def test_more_is_made_the_longer_a_reader_reads_on_and_less_towards_the_end_of_a_stream(stream_of):
    endless = stream_of(batch_size=256)
    assert [endless._spare_rows(64, 0) for _ in range(8)] == [2, 4, 8, 16, 32, *[TILE_ROWS] * 3]
    assert endless._spare_rows(STREAM_BYTES // 12, 0) == 2
    finite = stream_of(n=5000, batch_size=256)
    assert [finite._spare_rows(64, 0) for _ in range(7)][-1] == TILE_ROWS
    assert [finite._spare_rows(64, row) for row in (4700, 4940, 4995)] == [50, 10, 0]


async def test_who_asks_again_and_again_finds_rows_ready_and_each_of_them_once(asked, pool, experts, six, eventually):
    rows, floats = [], Form(PIXELS.learned, "float32", "NCHW")
    held = [expert.digest for _, expert in six[0][-1].experts()]
    for _ in range(4):
        rows += await asked(n=60, format=Format("float32"))
    await asyncio.to_thread(eventually, lambda: all(pool.stock.count(each, 0, floats) >= 15 for each in held))
    before = experts.used
    for _ in range(3):  # before anything can be made again
        rows += await asked(n=20, format=Format("float32"))
    assert experts.used - before <= 6, "one pass of each expert at most, to fill up again"
    assert len(set(rows)) == len(rows) == 300


async def test_what_is_ready_does_not_change_what_is_promised(asked, pool, eventually):
    seeded = await asked(n=60, seed=3)
    for _ in range(3):
        await asked(n=60)
    await asyncio.to_thread(eventually, lambda: pool.stock.nbytes == 2 * 60 * 64)
    assert await asked(n=60, seed=3) == seeded
    assert pool.stock.nbytes == 2 * 60 * 64


async def test_what_came_into_stock_while_a_request_waited_is_given_to_it(stream_of, pool, experts, six, monkeypatch):
    busy, go_on = threading.Event(), threading.Event()
    run = passes.run

    def held_up(*arguments):
        busy.set()
        assert go_on.wait(60)
        run(*arguments)

    monkeypatch.setattr(passes, "run", held_up)
    others = [asyncio.create_task(rows_of(stream_of(n=1, classes=(label,), seed=1))) for label in (0, 1)]
    await asyncio.to_thread(busy.wait, 60)
    waiting = asyncio.create_task(rows_of(stream_of(n=2, classes=(5,))))
    while not pool._waiting._open:
        await asyncio.sleep(0.01)
    *_, (_, expert) = six[0][-1].experts()
    ready = np.full((2, *PIXELS.shape), 7, np.uint8)
    pool.stock.put(expert.digest, PIXELS, np.zeros(2, np.int64), ready, pool.stock.forgotten)
    go_on.set()
    assert await waiting == [bytes([7]) * 64] * 2
    await asyncio.gather(*others)
    assert experts.used == 2


async def test_a_broken_expert_is_told_to_who_asks_for_it_and_the_threads_go_on(asked, pool, monkeypatch):
    def breaks(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(passes, "ahead", breaks)
    for _ in range(5):
        assert len(await asked(n=60)) == 60
    assert all(thread.is_alive() for thread in pool._threads)
    assert pool.stock.nbytes == 0


async def test_of_an_expert_that_is_forgotten_nothing_is_made_any_more(asked, pool, six, experts, eventually):
    for _ in range(3):
        await asked(n=60)
    await asyncio.to_thread(eventually, lambda: pool.stock.nbytes == 2 * 60 * 64)
    held = frozenset(expert.digest for _, expert in six[0][-1].experts())
    pool.forget_experts(held)
    assert pool.stock.nbytes == 0
    used = experts.used
    await asyncio.sleep(0.2)
    assert experts.used == used
    assert pool.stock.nbytes == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no niceness of their own")
def test_only_what_nobody_waits_for_is_computed_by_threads_that_give_way(pool, eventually):
    def niceness():
        return {each.name: os.getpriority(os.PRIO_PROCESS, each.native_id) for each in pool._threads}

    own = os.getpriority(os.PRIO_PROCESS, 0)
    expected = {"tiles-0": own, "tiles-1": own, "ahead-0": 10, "ahead-1": 10}
    eventually(lambda: niceness() == expected)


async def test_what_is_ready_is_kept_for_a_while_after_the_last_request(asked, pool, monkeypatch, eventually):
    monkeypatch.setattr("memory_server.sampling.pool.STALE_SECONDS", 1.0)
    for _ in range(3):
        await asked(n=60)
    await asyncio.to_thread(eventually, lambda: pool.stock.nbytes == 2 * 60 * 64)
    await asyncio.to_thread(eventually, lambda: pool.stock.nbytes == 0)


async def test_of_a_memory_that_is_deleted_no_row_is_kept(six, experts, monkeypatch):
    monkeypatch.setattr("memory_server.sampling.stream.STALL_SECONDS", 60.0)
    engine = SamplingEngine(lambda memory, revision: six[0][-1], experts, threads=1)
    held = frozenset(expert.digest for _, expert in six[0][-1].experts())
    query = SampleQuery("m", batch_size=8)
    async with engine.open(query) as stream, engine.open(query) as other:
        await rows_of(aiter(stream), 5000)
        await rows_of(aiter(other), 100)
        stock = engine.stock
        assert stock.nbytes > 0
        await asyncio.to_thread(stock.forget, frozenset(list(held)[:3]))
        left = stock.nbytes
        assert left > 0
        await engine.deleted("m", Deleted(frozenset(), held, ()))
        assert stock.nbytes == 0
    engine.close()
