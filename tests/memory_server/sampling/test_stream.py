import asyncio
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dgm_core.manifest import Shared
from memory_server.errors import (
    EmptyMemory,
    ShuttingDown,
    SolverRetraining,
    Superseded,
    UnknownClass,
    UnknownMemory,
    UnknownRevision,
    UnknownTask,
)
from memory_server.sampling.engine import SamplingEngine
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.formats import Form, Format
from memory_server.sampling.pool import TilePool
from memory_server.sampling.queries import SampleQuery
from memory_server.sampling.stream import AHEAD_BYTES, LARGEST_MESSAGE_BYTES, Opening, Rows, Stream
from memory_server.store.records import Deleted, Forgotten

ROW = 64


class CountingExperts(ExpertCache):
    """Counts how often it is asked for an expert: once per pass, with a seed once per tile.

    While `gate` is closed, it does not answer.
    """

    def __init__(self, learned):
        revisions, blobs = learned
        super().__init__(lambda memory: revisions[-1], blobs, torch.device("cpu"), 1 << 30)
        self.tiles = 0
        self.gate = threading.Event()
        self.gate.set()
        self.failure = None

    def expert(self, memory, digest):
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.tiles += 1
        return super().expert(memory, digest)


@pytest.fixture
def experts(learned):
    return CountingExperts(learned)


@pytest.fixture
async def pool(experts):
    pool = TilePool(experts, threads=2)
    yield pool
    experts.gate.set()
    pool.close()


def stream_of(learned, pool, heartbeat=10.0, freed=lambda: None, **query):
    newest = learned[0][-1]
    return Stream(SampleQuery("m", **query), newest, lambda: newest, pool, heartbeat, freed)


def bytes_of(answers):
    return b"".join(part.data for answer in answers if isinstance(answer, Rows) for part in answer.x)


async def collect(stream):
    return [answer async for answer in stream]


async def test_an_opening_comes_first_and_at_once(learned, pool, experts):
    experts.gate.clear()
    async for answer in stream_of(learned, pool, n=10):
        assert answer == Opening(2, Form((1, 8, 8), "uint8", "NCHW"), (0, 1, 2, 3), 128)
        break


async def test_rows_are_computed_while_the_opening_is_on_its_way(learned, pool, experts, eventually):
    stream = aiter(stream_of(learned, pool, n=10))
    assert isinstance(await anext(stream), Opening)
    await asyncio.to_thread(eventually, lambda: experts.tiles > 0)


async def test_what_is_ahead_of_a_reader_that_does_not_take_the_opening_is_let_go(learned, pool, monkeypatch):
    wanted = await collect(stream_of(learned, pool, n=400, seed=1))
    monkeypatch.setattr("memory_server.sampling.stream.STALL_SECONDS", 0.2)
    stream, got = stream_of(learned, pool, n=400, seed=1), []
    async for answer in stream:
        got.append(answer)
        if len(got) == 1:
            assert stream._window
            await asyncio.sleep(0.6)
            assert not stream._window
    assert got[0] == wanted[0]
    assert bytes_of(got) == bytes_of(wanted)


async def test_a_stream_has_every_row_once_and_in_order(learned, pool):
    answers = (await collect(stream_of(learned, pool, n=1000, batch_size=30, seed=1)))[1:]
    at = 0
    for rows in answers:
        assert rows.row == at
        assert sum(map(len, rows.x)) == len(rows.y) // 4
        at += len(rows.y) // 4
    assert at == 1000


async def test_the_pool_tells_whether_rows_are_waited_for(learned, experts, eventually):
    told = []
    pool = TilePool(experts, 2, told.append)
    try:
        await collect(stream_of(learned, pool, n=10))
        await asyncio.to_thread(eventually, lambda: told[-1:] == [False])
        assert True in told
    finally:
        pool.close()


async def test_a_stream_past_its_end_is_only_an_opening(learned, pool):
    (opening,) = await collect(stream_of(learned, pool, n=10, batch_size=5, start_at=2))
    assert isinstance(opening, Opening)


async def batches_of(stream):
    """Index of a batch -> its x and y, by the words of memory.proto; no row may come twice."""
    query, found = stream.query, {}
    for rows in (await collect(stream))[1:]:
        batch, place = divmod(rows.row, query.batch_size)
        sent = b"".join(part.data for part in rows.x)
        for at, label in enumerate(np.frombuffer(rows.y, "<i4").tolist()):
            x, y = found.setdefault(batch, (bytearray(), []))
            assert len(y) == place
            x += sent[at * ROW : (at + 1) * ROW]
            y.append(label)
            batch, place = (batch, place + 1) if place + 1 < query.batch_size else (batch + query.stride, 0)
    return found


@pytest.mark.parametrize(("batch_size", "n"), [(7, 400), (64, 700), (128, 1000), (300, 1000), (1500, 4000)])
@pytest.mark.parametrize(("stride", "start_at"), [(2, 0), (3, 1), (5, 4)])
async def test_a_stride_gives_every_nth_batch_as_it_is_without_one(batch_size, n, stride, start_at, learned, pool):
    asked = {"n": n, "batch_size": batch_size, "seed": 3}
    whole = await batches_of(stream_of(learned, pool, **asked))
    some = await batches_of(stream_of(learned, pool, **asked, stride=stride, start_at=start_at))
    assert sorted(whole) == list(range(-(-n // batch_size)))
    assert some == {batch: whole[batch] for batch in whole if batch >= start_at and (batch - start_at) % stride == 0}


async def test_a_stride_computes_no_tile_without_a_row_that_was_asked_for(learned, pool, experts):
    asked = {"n": 2048, "batch_size": 256, "seed": 3}
    await collect(stream_of(learned, pool, **asked))
    all_of_them = experts.tiles
    await collect(stream_of(learned, pool, **asked, stride=4, start_at=1))
    assert experts.tiles - all_of_them == all_of_them / 4


async def test_a_silent_stream_sends_heartbeats(learned, pool, experts):
    experts.gate.clear()
    beats = []
    async for answer in stream_of(learned, pool, heartbeat=0.01, n=10):
        if isinstance(answer, Rows):
            beats.append(answer)
            if len(beats) == 3:
                experts.gate.set()
            if answer.x:
                break
    assert beats[:3] == [Rows(0)] * 3
    assert len(beats[-1].y) == 40


async def test_little_is_generated_ahead_of_a_reader_that_reads_once(learned, pool, experts, eventually):
    stream = aiter(stream_of(learned, pool, batch_size=32, seed=1))
    await anext(stream)
    await anext(stream)
    await asyncio.sleep(0.5)
    seen = experts.tiles
    await asyncio.sleep(0.3)
    assert experts.tiles == seen <= 4 * 4


async def test_a_job_that_is_done_is_not_waited_for(learned, pool):
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    with pytest.raises(StopIteration) as step:  # as a step ends that leaves nothing to the event loop
        stream_of(learned, pool)._ready(SimpleNamespace(done=done)).send(None)
    assert step.value.value is True


async def test_what_is_generated_ahead_is_bounded_in_bytes(learned, pool, experts):
    stream = stream_of(learned, pool, batch_size=1024, seed=1)
    rows = 0
    async for answer in stream:
        rows += len(answer.y) // 4 if isinstance(answer, Rows) else 0
        if rows > 20 * 1024:
            break
    await asyncio.sleep(1.0)
    ahead = experts.tiles * 64 * ROW - rows * ROW
    assert 0 <= ahead <= AHEAD_BYTES + 3 * 1024 * ROW


@pytest.mark.parametrize("size", [(8, 8), (64, 48)])
async def test_rows_of_any_format_come_once_and_in_order(learned, pool, size):
    """Large ones wait as floats, and are made when they are sent."""
    form = Format("float32", "NHWC", size)
    answers = (await collect(stream_of(learned, pool, n=700, batch_size=300, start_at=1, seed=1, format=form)))[1:]
    at = 300
    for rows in answers:
        assert rows.row == at
        assert [part.shape[1:] for part in rows.x] == [(*size, 1)] * len(rows.x)
        assert all(part.flags.c_contiguous and part.dtype == np.float32 for part in rows.x)
        assert sum(part.nbytes for part in rows.x) <= LARGEST_MESSAGE_BYTES
        at += sum(map(len, rows.x))
    assert at == 700


async def test_what_waits_for_a_reader_is_no_larger_than_floats(learned, pool, experts):
    stream = stream_of(learned, pool, batch_size=1024, format=Format("float32", None, (1024, 1024)))
    reader = aiter(stream)
    for _ in range(3):
        await anext(reader)
    held = sum(due.job.x.nbytes for due in stream._window)
    assert 0 < held <= AHEAD_BYTES + 1024 * ROW * 4


@pytest.mark.parametrize(
    ("format", "n"),
    [(Format(), 40_000), (Format("float32", None, (64, 64)), 4000)],
    ids=["as it is", "in many messages"],
)
async def test_what_is_ahead_of_a_reader_that_stalls_is_let_go_and_computed_again_when_it_reads_on(
    learned, pool, experts, monkeypatch, format, n
):
    request = {"seed": 5, "n": n, "batch_size": 50, "format": format}
    wanted = await collect(stream_of(learned, pool, **request))
    without, experts.tiles = experts.tiles, 0
    monkeypatch.setattr("memory_server.sampling.stream.STALL_SECONDS", 1.0)  # enough to compute what is ahead
    got, freed = [], []
    stream = stream_of(learned, pool, freed=lambda: freed.append(len(got)), **request)
    async for answer in stream:
        got.append(answer)
        if len(got) >= 3 and not freed and stream._window:  # not where all that was made has just been given
            stalled_at = len(got)
            async with asyncio.timeout(60):
                while not freed:
                    await asyncio.sleep(0.05)
            assert not stream._window and not stream._finished
    assert bytes_of(got) == bytes_of(wanted)
    assert [rows.row for rows in got[1:]] == sorted({rows.row for rows in got[1:]})
    assert experts.tiles > without
    assert freed == [stalled_at]


async def test_a_stream_that_is_ended_between_two_messages_of_a_segment_gives_no_second(learned, pool):
    stream = stream_of(learned, pool, n=64, batch_size=64, format=Format("float32", None, (256, 256)))
    reader = aiter(stream)
    await anext(reader)
    await anext(reader)
    assert stream._finished and not stream._window
    stream.end(ShuttingDown("bye"))
    with pytest.raises(ShuttingDown):
        await anext(reader)


async def test_a_small_reader_is_not_kept_waiting_by_a_large_one(learned, experts):
    pool = TilePool(experts, threads=1)
    experts.gate.clear()
    large, small = stream_of(learned, pool, batch_size=1024), stream_of(learned, pool, n=8)
    first, second = aiter(large), aiter(small)
    await anext(first)
    await anext(second)
    waiting = [asyncio.create_task(anext(one)) for one in (first, second)]
    await asyncio.sleep(0.05)
    experts.gate.set()
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert waiting[1].done() and not waiting[0].done()
    await asyncio.gather(*waiting)
    pool.forget(large)
    pool.close()


async def test_a_failure_in_a_tile_reaches_the_reader(learned, pool, experts):
    experts.failure = UnknownMemory("m", [])
    with pytest.raises(UnknownMemory):
        await collect(stream_of(learned, pool, n=10))


async def test_a_stream_that_is_ended_raises_at_its_next_step(learned, pool, experts):
    experts.gate.clear()
    stream = stream_of(learned, pool, n=10)
    reader = asyncio.create_task(collect(stream))
    await asyncio.sleep(0.05)
    stream.end(ShuttingDown("bye"))
    with pytest.raises(ShuttingDown):
        await reader


async def test_the_engine_gives_the_same_seeded_rows_with_any_number_of_threads(learned):
    rows = []
    for threads in (1, 3):
        experts = CountingExperts(learned)
        engine = SamplingEngine(lambda memory, revision: learned[0][-1], experts, threads)
        async with engine.open(SampleQuery("m", n=700, batch_size=64, seed=5)) as stream:
            rows.append(bytes_of([answer async for answer in stream]))
        engine.close()
    assert rows[0] == rows[1]


async def test_an_engine_that_drains_ends_endless_streams_and_opens_no_more(learned, experts):
    engine = SamplingEngine(lambda memory, revision: learned[0][-1], experts, 1)
    async with engine.open(SampleQuery("m")) as endless, engine.open(SampleQuery("m", n=300)) as finite:
        reader = aiter(endless)
        await anext(reader)
        engine.drain()
        with pytest.raises(ShuttingDown):
            await collect(reader)
        assert sum(len(answer.y) // 4 for answer in (await collect(finite))[1:]) == 300
    with pytest.raises(ShuttingDown):
        async with engine.open(SampleQuery("m", n=1)):
            pass
    engine.close()


async def test_a_stream_follows_a_commit_from_its_next_batch_on(learned, experts):
    revisions, _ = learned
    engine = SamplingEngine(lambda memory, revision: revisions[1], experts, 1)
    async with engine.open(SampleQuery("m", batch_size=64)) as stream:
        reader = aiter(stream)
        assert (await anext(reader)).classes == (0, 1)
        engine.committed("m", revisions[2])
        seen = [await anext(reader) for _ in range(8)]
    (opening,) = [answer for answer in seen if isinstance(answer, Opening)]
    assert (opening.revision, opening.classes) == (2, (0, 1, 2, 3))
    labels = np.frombuffer(seen[-1].y, "<i4")
    assert set(labels) == {0, 1, 2, 3}
    engine.close()


# Forgetting


class ForgettingExperts(CountingExperts):
    """The newest revision is what the test says."""

    def __init__(self, learned):
        super().__init__(learned)
        self.present = learned[0][-1]
        self._newest = lambda memory: self.present


@pytest.fixture
def forgetting(learned):
    return ForgettingExperts(learned)


@pytest.fixture
async def engine(learned, forgetting):
    """An engine for a memory m of two tasks, whose older revisions can be found."""
    revisions, _ = learned

    def find(memory, revision):
        return forgetting.present if revision is None else revisions[revision]

    engine = SamplingEngine(find, forgetting, 2)
    yield engine
    forgetting.gate.set()
    engine.close()


@pytest.fixture
def forget(engine, forgetting):
    """Has the engine hear that a task of m was forgotten."""

    async def forget(task, left=(0, 1)):
        experts = {expert.digest for entry, expert in forgetting.present.experts() if entry.task == task}
        forgetting.present = after = forgetting.present.without(task)
        await engine.forgotten("m", Forgotten(after, (*left, after.revision), frozenset(), frozenset(experts)))

    return forget


@pytest.mark.parametrize("query", [{"seed": 1}, {"revision": 2}, {"revision": 2, "n": 10_000}])
async def test_a_stream_that_is_pinned_to_a_forgotten_task_ends(engine, forget, query):
    async with engine.open(SampleQuery("m", **query)) as stream:
        reader = aiter(stream)
        assert [type(await anext(reader)) for _ in range(3)] == [Opening, Rows, Rows]
        await forget("t1")
        with pytest.raises(UnknownRevision, match="no revision 2; the revisions are 0, 1, 3"):
            await collect(reader)


async def test_a_stream_that_is_pinned_to_an_older_revision_goes_on(engine, forget):
    async with engine.open(SampleQuery("m", revision=1, n=500)) as stream:
        reader = aiter(stream)
        await anext(reader)
        await forget("t1")
        assert sum(len(rows.y) // 4 for rows in await collect(reader)) == 500


async def test_a_stream_that_follows_gives_no_row_of_the_forgotten_task_from_then_on(engine, forget, forgetting):
    async with engine.open(SampleQuery("m", n=5000, batch_size=64)) as stream:
        reader = aiter(stream)
        before = [await anext(reader) for _ in range(3)]
        await forget("t1")
        after = await collect(reader)
    opening = next(answer for answer in after if isinstance(answer, Opening))
    assert (opening.revision, opening.classes) == (3, (0, 1))
    assert after[0] == opening
    labels = np.frombuffer(b"".join(rows.y for rows in after[1:]), "<i4")
    assert set(labels) == {0, 1}
    rows = [answer for answer in (*before, *after) if isinstance(answer, Rows)]
    at = 0
    for part in rows:
        assert part.row == at
        at += len(part.y) // 4
    assert at == 5000


async def test_a_stream_with_a_stride_that_follows_goes_on_where_it_is(engine, forget):
    async with engine.open(SampleQuery("m", n=9000, batch_size=64, stride=3, start_at=1)) as stream:
        reader = aiter(stream)
        answers = [await anext(reader) for _ in range(3)]
        await forget("t1")
        answers += await collect(reader)
    position, total = 64, sum(len(rows.y) // 4 for rows in answers if isinstance(rows, Rows))
    for rows in (answer for answer in answers if isinstance(answer, Rows)):
        assert rows.row == position
        for _ in range(len(rows.y) // 4):
            position += 1 if (position + 1) % 64 else 1 + 2 * 64
    assert total == sum(min(64, 9000 - 64 * batch) for batch in range(1, 141, 3))


async def test_a_reader_that_waits_while_a_task_is_forgotten_gets_what_is_left(engine, forget, forgetting):
    forgetting.gate.clear()
    async with engine.open(SampleQuery("m", n=300, batch_size=64)) as stream:
        reading = asyncio.create_task(collect(stream))
        await asyncio.sleep(0.05)
        forgetting.gate.set()
        await forget("t1")
        answers = await reading
    openings = [answer for answer in answers if isinstance(answer, Opening)]
    assert openings[-1].classes == (0, 1)
    assert sum(len(rows.y) // 4 for rows in answers if isinstance(rows, Rows)) == 300


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"tasks": ("t1",)}, UnknownTask),
        ({"classes": (0, 3)}, UnknownClass),
        ({"tasks": ("t0", "t1"), "classes": (2,)}, UnknownTask),
    ],
)
@pytest.mark.parametrize("waiting", [True, False])
async def test_a_stream_of_what_is_gone_ends_and_says_so(engine, forget, forgetting, query, error, waiting):
    async with engine.open(SampleQuery("m", **query)) as stream:
        reader = aiter(stream)
        await anext(reader)
        if waiting:
            forgetting.gate.clear()
            reading = asyncio.create_task(collect(reader))
            await asyncio.sleep(0.05)
        await forget("t1")
        with pytest.raises(error):
            await (reading if waiting else collect(reader))


async def test_a_stream_of_a_memory_that_has_forgotten_everything_ends(engine, forget):
    async with engine.open(SampleQuery("m")) as stream:
        reader = aiter(stream)
        await anext(reader)
        await anext(reader)
        await forget("t1")
        await forget("t0", left=(0,))
        with pytest.raises(EmptyMemory):
            await collect(reader)


async def test_a_stream_opened_on_a_forgotten_revision_by_a_hair_is_told_to_open_again(engine, forget, forgetting):
    """Its manifest was found just before, its expert is looked for just after."""
    async with engine.open(SampleQuery("m", revision=2)) as stream:
        forgetting.present = forgetting.present.without("t1")
        with pytest.raises(Superseded):
            await collect(stream)


async def test_classifying_waits_for_the_solver_and_nothing_of_the_old_one_stays(engine, forget, forgetting):
    x = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    classified = await engine.classify("m", x)
    assert (classified.revision, classified.probabilities.shape) == (2, (3, 4))
    for digest in [expert.digest for _, expert in forgetting.present.experts()]:
        forgetting.expert("m", digest)
    held = forgetting.nbytes
    await forget("t1")
    assert 0 < forgetting.nbytes < held
    with pytest.raises(SolverRetraining):
        await engine.classify("m", x)
    assert (await engine.newest("m")).revision == 3


async def test_who_knows_the_task_has_its_classes_alone_to_choose_from(engine):
    x = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    anything = await engine.classify("m", x)
    of_task = await engine.classify("m", x, "t1")
    columns = [anything.classes.index(label) for label in of_task.classes]
    chosen = anything.probabilities[:, columns]
    assert (of_task.revision, of_task.classes) == (2, (2, 3))
    np.testing.assert_allclose(of_task.probabilities, chosen / chosen.sum(axis=1, keepdims=True), rtol=1e-5)


async def test_classifying_by_a_task_that_was_not_learned_names_those_that_were(engine):
    with pytest.raises(UnknownTask, match="no task 't9'; the tasks are 't0', 't1'"):
        await engine.classify("m", torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "t9")


# Deleting


async def test_of_a_memory_that_is_deleted_no_expert_is_kept(engine, learned, forgetting):
    held = frozenset(expert.digest for _, expert in learned[0][-1].experts())
    async with engine.open(SampleQuery("m", n=100)) as stream:
        await collect(stream)
    assert forgetting.count > 0
    await engine.deleted("m", Deleted(frozenset(), held, ()))
    assert (forgetting.count, forgetting.nbytes) == (0, 0)


async def test_readers_of_a_memory_that_is_deleted_are_told_all_that_are_left(engine):
    async with engine.open(SampleQuery("m")) as stream:
        reader = aiter(stream)
        await anext(reader)
        await engine.deleted("m", Deleted(frozenset(), frozenset(), ("birds", "digits")))
        with pytest.raises(UnknownMemory, match="no memory 'm'; the memories are 'birds', 'digits'"):
            await collect(reader)


async def test_what_was_looked_up_before_a_deletion_is_not_taken_for_the_memory_that_has_the_name_since(
    learned, experts
):
    revisions, _ = learned
    looked_up, go_on, found = threading.Event(), threading.Event(), [revisions[2]]

    def find(memory, revision):
        seen = found[0]
        looked_up.set()
        assert go_on.wait(60)
        return seen

    engine = SamplingEngine(find, experts, 1)
    looking = asyncio.create_task(engine.newest("m"))
    await asyncio.to_thread(looked_up.wait, 60)
    found[0] = revisions[1]
    await engine.deleted("m", Deleted(frozenset(), frozenset(), ()))
    go_on.set()
    assert (await looking).revision == (await engine.newest("m")).revision == 1
    engine.close()


# Retraining


@pytest.fixture
def retrain(engine, forgetting):
    """Has the engine hear that one generator holds all tasks of m from now on: here, the expert of t0 does."""

    async def retrain():
        before = forgetting.present
        first, second = before.tasks
        revised = (replace(first, consolidated=True), replace(second, experts=first.experts, consolidated=True))
        forgetting.present = after = before.restored(Shared(before.shared, {}, revised))
        gone = frozenset(expert.digest for expert in second.experts)
        await engine.forgotten("m", Forgotten(after, (after.revision,), frozenset(), gone))
        return after

    return retrain


@pytest.mark.parametrize("query", [{"seed": 1}, {"revision": 1, "n": 10_000}, {"revision": 2}])
async def test_a_stream_that_is_pinned_to_what_a_generator_was_before_it_was_retrained_ends(engine, retrain, query):
    async with engine.open(SampleQuery("m", **query)) as stream:
        reader = aiter(stream)
        assert [type(await anext(reader)) for _ in range(3)] == [Opening, Rows, Rows]
        await retrain()
        with pytest.raises(UnknownRevision, match=r"no revision [12]; the revisions are 3"):
            await collect(reader)


async def test_a_stream_that_follows_goes_on_with_the_retrained_generator(engine, retrain, forgetting):
    (second,) = (expert.digest for expert in forgetting.present.tasks[1].experts)
    async with engine.open(SampleQuery("m", n=5000, batch_size=64)) as stream:
        reader = aiter(stream)
        answers = [await anext(reader) for _ in range(3)]
        after = await retrain()
        answers += await collect(reader)
    openings = [answer for answer in answers if isinstance(answer, Opening)]
    assert [opening.revision for opening in openings] == [2, after.revision]
    assert sum(len(rows.y) // 4 for rows in answers if isinstance(rows, Rows)) == 5000
    with pytest.raises(Superseded):
        forgetting.expert("m", second)


async def test_what_is_asked_for_after_it_is_sampled_and_classified_by_the_retrained_generator(engine, retrain):
    x = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    assert (await engine.classify("m", x)).revision == 2
    after = await retrain()
    assert (await engine.classify("m", x)).revision == after.revision
    async with engine.open(SampleQuery("m", n=10, seed=1)) as stream:
        opening, *_ = await collect(stream)
    assert opening.revision == after.revision
