"""What lies between two tasks, in the sampler: plans, and experts that no memory holds."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from dgm_core.errors import CannotBlend
from dgm_core.manifest import DataSpec, ExpertEntry, Manifest, TaskEntry
from dgm_core.memories import KINDS
from dgm_core.memories.dgmw import DGMw
from dgm_core.memory import Blend
from memory_server.errors import BadRequest, EmptyMemory, Superseded, UnknownClass, UnknownTask
from memory_server.sampling.engine import SamplingEngine
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.formats import Form
from memory_server.sampling.queries import BlendQuery, SampleQuery
from memory_server.sampling.stream import Opening, Rows

BASE = "f" * 64
WEIGHTS = (0.0, 0.5, 1.0)


def entry(task, digest, *classes):
    expert = ExpertEntry(digest, classes, tuple(5 for _ in classes))
    return TaskEntry(task, "b" * 64, (expert,), quality=1.0, steps=1, seconds=1.0)


@pytest.fixture
def manifest():
    """Tasks a and b, both of the class cat, on a base."""
    tasks = (entry("a", "ea", "cat", "dog"), entry("b", "eb", "emu", "cat"))
    return Manifest("k", {"seed": "1", "base": BASE}, DataSpec((1, 8, 8), "uint8"), revision=2, tasks=tasks)


def query(start="a", end="b", weights=WEIGHTS, n=10, *, memory="m", seed=None, **blend):
    return BlendQuery(memory, seed=seed, blend=Blend(start, end, 0.0, **blend), weights=weights, n=n)


def sources(plan):
    return [source for each in plan.plans for (source,) in each.sources]


def runs(segment):
    return [(run.batch, run.label, run.rows) for tile in segment.tiles for run in tile.runs]


@pytest.mark.parametrize("n", [1, 10, 64, 300, 1024, 2100])
def test_every_batch_is_the_first_batch_of_a_sample_of_one_class(manifest, n):
    sample = SampleQuery("m", classes=("cat",), tasks=("a",), n=n, batch_size=n).plan(manifest, 5)
    plan = query(n=n).plan(manifest, 5)
    assert (plan.classes, plan.batch_size, plan.seed) == (("cat",), n, 5)
    own = [sample.segment(number) for number in range(sample.parts)]
    for batch in range(len(WEIGHTS)):
        number = plan.find(batch)
        assert batch in plan.batches(number)
        for part, wanted in enumerate(own):
            segment = plan.segment(number + part)
            assert segment.row == batch * n + wanted.row
            assert np.array_equal(segment.y, np.zeros(len(wanted.y)))
            assert runs(segment) == runs(wanted)
            for tile, same in zip(segment.tiles, wanted.tiles, strict=True):
                assert np.array_equal(tile.places, same.places)
    assert len(plan.segment(plan.find(len(WEIGHTS))).y) == 0


def test_an_expert_is_known_by_its_blend_and_by_what_it_lies_between(manifest):
    first, middle, last = sources(query().plan(manifest, 1))
    assert middle.expert.blend == Blend("a", "b", 0.5, classes=("cat", "emu"))
    assert middle.expert.origins == (BASE, "ea", "eb")
    assert (first.expert.own, middle.expert.own, last.expert.own) == ("ea", None, "eb")
    (of_base,) = sources(query("", weights=(0.0,)).plan(manifest, 1))
    assert (of_base.expert.origins, of_base.expert.own) == ((BASE, "eb"), None)


def test_at_an_end_it_is_the_tasks_own_expert_unless_something_stays_behind(manifest):
    first, _, last = sources(query(classes=("dog", "cat")).plan(manifest, 1))
    assert ((first.expert.own, first.index), (last.expert.own, last.index)) == (("ea", 1), ("eb", 1))
    for part in ({"groups": ("scale",)}, {"layers": ("in",)}):
        first, _, last = sources(query(**part).plan(manifest, 1))
        assert (first.expert.own, last.expert.own) == ("ea", None)


def test_the_noise_is_that_of_the_class_of_the_start_or_of_the_end_of_the_base(manifest):
    assert query(classes=("dog", None)).plan(manifest, 1).classes == ("dog",)
    assert query("").plan(manifest, 1).classes == ("emu",)
    assert query("", classes=(None, "cat")).plan(manifest, 1).classes == ("cat",)


def test_what_is_not_there_is_refused(manifest):
    with pytest.raises(UnknownTask, match="'a', 'b'"):
        query("c").plan(manifest, 1)
    with pytest.raises(UnknownTask):
        query(end="c").plan(manifest, 1)
    with pytest.raises(UnknownClass, match=r"^end_class: task 'b' has no class 'dog'; its classes are 'emu', 'cat'$"):
        query(classes=(None, "dog")).plan(manifest, 1)
    with pytest.raises(UnknownClass, match=r"^start_class: task 'a' has no class 'emu'; its classes are"):
        query(classes=("emu", None)).plan(manifest, 1)
    with pytest.raises(EmptyMemory):
        query("").plan(replace(manifest, tasks=()), 1)


# Experts


@pytest.fixture
def made(monkeypatch):
    """Has the kind of the learned memory blend, in its own way: into the expert of the end. Gives what it blended."""
    made = []

    class Blending(DGMw):
        def blended(self, blend):
            if blend.layers:
                raise CannotBlend("layers", "there is no such layer")
            made.append(blend)
            (digest,) = [expert.digest for task, expert in self.manifest.experts() if task.task == blend.end]
            return self.expert(digest)

    monkeypatch.setitem(KINDS, "dgmw", Blending)
    return made


@pytest.fixture
def cache(learned):
    """A cache of a memory m; `present` is its newest revision."""
    revisions, blobs = learned
    present = [revisions[-1]]
    cache = ExpertCache(lambda memory: present[0], blobs, torch.device("cpu"), 1 << 30)
    cache.present = present
    return cache


def keys(cache, weights, **blend):
    plan = query("t0", "t1", weights, **blend).plan(cache.present[0], 1)
    return [source.expert for source in sources(plan)]


def test_a_blend_is_made_once_and_only_a_few_are_kept(cache, made):
    many = keys(cache, tuple(np.linspace(0.1, 0.9, 20).tolist()))
    for key in many:
        assert cache.expert("m", key) is cache.expert("m", key)
    assert len(made) == 20
    held = cache.nbytes
    cache.expert("m", many[-1])
    assert len(made) == 20
    cache.expert("m", many[0])
    assert len(made) == 21
    assert cache.nbytes == held < 20 * cache.expert("m", many[0]).nbytes


def test_blends_do_not_drive_the_experts_of_tasks_away(cache, made):
    own = [expert.digest for _, expert in cache.present[0].experts()]
    kept = [cache.expert("m", digest) for digest in own]
    for key in keys(cache, tuple(np.linspace(0.1, 0.9, 20).tolist())):
        cache.expert("m", key)
    assert [cache.expert("m", digest) for digest in own] == kept


def test_an_end_is_the_tasks_own_expert_and_refused_as_any_blend_is(cache, made):
    start, end = keys(cache, (0.0, 1.0))
    own = [expert.digest for _, expert in cache.present[0].experts()]
    assert [cache.expert("m", start).digest, cache.expert("m", end).digest] == own
    for key in keys(cache, (0.0,), layers=("nowhere",)):
        with pytest.raises(BadRequest, match="no such layer") as caught:
            cache.expert("m", key)
        assert caught.value.field == "layers"


def test_nothing_of_a_blend_stays_when_a_task_is_forgotten(cache, made):
    (key,) = keys(cache, (0.5,))
    cache.expert("m", key)
    assert cache.nbytes > 0
    cache.present[0] = cache.present[0].without("t1")
    cache.forget(set())
    assert cache.nbytes == 0
    with pytest.raises(Superseded):
        cache.expert("m", key)


def test_a_kind_that_cannot_blend_says_so(cache):
    for key in keys(cache, WEIGHTS):
        with pytest.raises(CannotBlend, match="gan_memory"):
            cache.expert("m", key)


# Streams


@pytest.fixture
async def engine(learned, cache):
    engine = SamplingEngine(lambda memory, revision: learned[0][-1], cache, 2)
    yield engine
    engine.close()


def bytes_of(answers):
    return b"".join(part.data for rows in answers if isinstance(rows, Rows) for part in rows.x)


async def answers_of(engine, asked):
    async with engine.open(asked) as stream:
        return [answer async for answer in stream]


async def test_rows_come_weight_by_weight_and_are_numbered_through(engine, made):
    opening, *rest = await answers_of(engine, query("t0", "t1", (0.0, 0.2, 0.8, 1.0), n=1100, seed=3))
    assert opening == Opening(2, Form((1, 8, 8), "uint8", "NCHW"), (0,), 1100)
    at = 0
    for rows in rest:
        assert rows.row == at
        at += len(rows.y) // 4
    assert at == 4400
    x = np.frombuffer(bytes_of(rest), np.uint8).reshape(4, 1100, 64)
    assert np.array_equal(x[1], x[2])  # this kind blends into its end, whatever the weight
    assert not np.array_equal(x[0], x[1])


async def test_a_stream_without_a_seed_has_fresh_noise_and_does_not_follow(engine, made, learned):
    one, other = [bytes_of(await answers_of(engine, query("t0", "t1"))) for _ in "12"]
    assert one != other
    async with engine.open(query("t0", "t1", (0.5,) * 50, n=200)) as stream:
        reader = aiter(stream)
        await anext(reader)
        engine.committed("m", replace(learned[0][-1], revision=3))
        rest = [answer async for answer in reader]
    assert all(isinstance(answer, Rows) for answer in rest)


async def test_a_refusal_reaches_the_reader_and_a_reader_that_leaves_stops_the_work(engine, made):
    with pytest.raises(BadRequest):
        await answers_of(engine, query("t0", "t1", layers=("nowhere",)))
    made.clear()
    async with engine.open(query("t0", "t1", tuple(np.linspace(0.01, 0.99, 256).tolist()), n=64)) as stream:
        reader = aiter(stream)
        await anext(reader)
        await anext(reader)
    await asyncio.sleep(0.3)
    seen = len(made)
    await asyncio.sleep(0.3)
    assert seen == len(made) < 256
