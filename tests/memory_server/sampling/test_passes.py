"""Tiles computed alone, merged and bundled: the same rows."""

import asyncio

import numpy as np
import pytest
import torch

from dgm_core.bundles import Bundle
from dgm_core.experts import FrozenExpert
from dgm_core.manifest import DataSpec
from dgm_core.networks import architecture_of
from memory_server.errors import Superseded
from memory_server.sampling import passes
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.foresight import Order
from memory_server.sampling.formats import Form
from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import Run, Segment, Tile
from memory_server.sampling.stock import Stock
from memory_server.sampling.tiles import classes, promised
from memory_server.sampling.waiting import Waiting
from memory_server.sampling.wanted import Part

SPEC, NOISE = DataSpec((1, 8, 8), "uint8"), 8
PIXELS = Form(SPEC.shape, "uint8", "NCHW")


def made(seed):
    torch.manual_seed(seed)
    architecture = architecture_of("dcgan", SPEC, NOISE)
    network = architecture.generator(architecture.initial_widths(2), 2).eval()
    for parameter in network.parameters():
        parameter.detach().normal_(std=0.3)
    return FrozenExpert(network.folded(), (0, 1), NOISE)


class Kept(ExpertCache):
    """Holds some experts and no memory."""

    def __init__(self, **experts):
        super().__init__(lambda memory: None, {}, torch.device("cpu"), 1 << 30)
        self._experts.update(experts)
        self.bundled = []

    def _made(self, memory, key):
        raise Superseded(memory)

    def bundle(self, experts):
        self.bundled.append(set(experts))
        return super().bundle(experts)


@pytest.fixture
def experts():
    return Kept(**{name: made(seed) for seed, name in enumerate("abc")})


async def delivered(experts, *jobs, stock=None, spare=0):
    """Computes jobs of tiles (expert, rows): gives x or the error of each."""
    waiting, submitted = Waiting(experts.signature, lambda job: job.spare), []
    for number, (tiles, exact) in enumerate(jobs):
        submitted.append(job_of(tiles, exact, seed=number, spare=spare))
        waiting.add(number, submitted[-1], submitted[-1].segment.tiles)
    while works := waiting.take():
        passes.run(works, experts, Stock() if stock is None else stock)
        waiting.charge(works, sum(work.rows for work in works))
    return await asyncio.gather(*(result(job) for job in submitted), return_exceptions=True)


def job_of(tiles, exact, seed, spare=0):
    total, made_tiles, at = sum(rows for _, rows in tiles), [], 0
    for expert, rows in tiles:
        made_tiles.append(Tile(expert, (Run(0, expert, 1, range(rows)),), np.arange(at, at + rows)[::-1]))
        at += rows
    segment = Segment(0, np.zeros(total, np.int32), tuple(made_tiles))
    x, done = np.zeros((total, *SPEC.shape), np.uint8), asyncio.get_running_loop().create_future()
    return Job("m", seed, exact, False, 0 if exact else spare, Part(segment, np.arange(total)), PIXELS, x, done)


async def result(job):
    await job.done
    return job.x


def expected(experts, tiles, seed):
    """The bytes that are promised: every tile alone, rounded up to eight rows."""
    parts = []
    for tile in job_of(tiles, True, seed).segment.tiles:
        z, c = (np.concatenate([each, np.zeros((-len(each) % 8, *each.shape[1:]), each.dtype)])
                for each in (promised(tile, seed, NOISE), classes(tile)))  # fmt: skip
        x = experts.expert("m", tile.expert).generate(torch.from_numpy(z), torch.from_numpy(c))
        parts.append(PIXELS.of(x)[: len(tile.places)].numpy()[::-1])
    return np.concatenate(parts)


MANY = [[("a", 3), ("b", 5)], [("a", 8)], [("b", 64), ("a", 20)], [("c", 1), ("a", 2), ("b", 4)]]


async def test_promised_tiles_have_their_bytes_whatever_else_waits(experts):
    found = await delivered(experts, *((tiles, number % 2 == 0) for number, tiles in enumerate(MANY)))
    for number in (0, 2):
        assert np.array_equal(found[number], expected(experts, MANY[number], number))


@pytest.fixture
def known_noise(monkeypatch):
    """What is not promised is drawn as if it were, of this seed."""
    monkeypatch.setattr(passes, "_noise", lambda work, noise_dim: promised(work.tile, 7, noise_dim))
    return 7


async def test_merged_and_bundled_tiles_have_the_same_rows(experts, known_noise):
    found = await delivered(experts, *((tiles, False) for tiles in MANY))
    assert experts.bundled == [{"b", "c"}]
    for number, tiles in enumerate(MANY):
        difference = np.abs(found[number].astype(int) - expected(experts, tiles, known_noise))
        assert difference.max() <= 1
        assert difference.mean() < 0.01


async def test_an_expert_that_is_gone_fails_its_own_readers_only(experts, known_noise):
    lost, whole, both = await delivered(
        experts, ([("gone", 2)], False), ([("a", 2), ("b", 2)], False), ([("a", 2), ("gone", 2)], False)
    )
    assert isinstance(lost, Superseded) and isinstance(both, Superseded)
    assert np.abs(whole.astype(int) - expected(experts, [("a", 2), ("b", 2)], known_noise)).max() <= 1


async def test_what_is_not_promised_never_comes_again(experts):
    once, again = [await delivered(experts, ([("a", 20)], False), ([("a", 20)], False)) for _ in range(2)]
    rows = {each.tobytes() for x in (*once, *again) for each in x}
    assert len(rows) == 80


class Whole(Stock):
    """Has as many rows made as may be."""

    def spare(self, job):
        return job.spare


def in_stock(stock, expert, most=200):
    """The rows of class 1 of an expert."""
    return [row for _ in range(most) if (row := stock.take(tile_of(expert, 1), PIXELS)) is not None]


def tile_of(expert, rows):
    return Tile(expert, (Run(0, expert, 1, range(rows)),), np.arange(rows))


async def test_rows_that_are_made_along_with_few_are_those_of_their_expert_and_class(experts, monkeypatch):
    noise = np.random.default_rng(3).standard_normal((64, NOISE), np.float32)
    drawn = iter([noise[:5], noise[5:]])
    monkeypatch.setattr(passes, "fresh", lambda rows, _: next(drawn)[:rows])
    stock = Whole()
    (x,) = await delivered(experts, ([("a", 5)], False), stock=stock, spare=64)
    made = experts.expert("m", "a").generate(torch.from_numpy(noise), torch.ones(64, dtype=torch.int64))
    pixels = {row.tobytes() for row in PIXELS.of(made).numpy()}
    rows = [*x, *(row[0] for row in in_stock(stock, "a"))]
    assert len(rows) == 64
    assert {row.tobytes() for row in rows} == pixels
    assert in_stock(stock, "b") == []


@pytest.mark.parametrize(
    ("rows", "spare", "kept"), [(5, 0, 0), (5, 3, 3), (5, 12, 11), (5, 64, 59), (64, 64, 0), (70, 64, 2)]
)
async def test_what_rounds_a_pass_up_is_kept_where_there_is_something_to_spare(rows, spare, kept, experts):
    stock = Whole()
    tiles = [("a", min(rows, 64)), ("a", rows - 64)][: 1 + (rows > 64)]
    await delivered(experts, (tiles, False), stock=stock, spare=spare)
    assert len(in_stock(stock, "a")) == kept


async def test_nothing_is_made_along_with_what_is_promised(experts):
    stock = Whole()
    (x,) = await delivered(experts, ([("a", 5)], True), stock=stock, spare=64)
    assert np.array_equal(x, expected(experts, [("a", 5)], 0))
    assert stock.nbytes == 0


async def test_a_bundle_has_eight_rows_of_each_where_there_is_something_to_spare(experts):
    stock = Whole()
    await delivered(experts, ([("a", 3), ("b", 1)], False), stock=stock, spare=8)
    assert experts.bundled == [{"a", "b"}]
    assert (len(in_stock(stock, "a")), len(in_stock(stock, "b"))) == (5, 7)


async def test_experts_are_computed_alone_where_much_may_be_made_of_each(experts):
    stock = Whole()
    await delivered(experts, ([("a", 3), ("b", 1)], False), stock=stock, spare=17)
    assert experts.bundled == []
    assert (len(in_stock(stock, "a")), len(in_stock(stock, "b"))) == (21, 23)


async def test_classes_that_are_made_along_are_those_that_were_asked_for_in_proportion(experts):
    runs = (Run(0, "x", 0, range(6)), Run(0, "y", 1, range(2)))
    tile = Tile("a", runs, np.arange(8))
    x, done = np.zeros((8, *SPEC.shape), np.uint8), asyncio.get_running_loop().create_future()
    part = Part(Segment(0, np.zeros(8, np.int32), (tile,)), np.arange(8))
    waiting, stock = Waiting(experts.signature, lambda job: job.spare), Whole()
    waiting.add(0, Job("m", 1, False, False, 64, part, PIXELS, x, done), [tile])
    passes.run(waiting.take(), experts, stock)
    assert len(in_stock(stock, "a")) == 56 // 4
    assert stock.nbytes == 3 * 56 // 4 * PIXELS.nbytes


async def test_what_breaks_in_a_pass_reaches_all_its_readers(experts, monkeypatch):
    monkeypatch.setattr(Bundle, "generate", lambda *_: 1 / 0)
    found = await delivered(experts, ([("a", 2), ("b", 2)], False), ([("c", 2)], False), ([("a", 64)], True))
    assert [type(each) for each in found] == [ZeroDivisionError, ZeroDivisionError, np.ndarray]


async def test_bundles_are_kept_for_the_next_time_and_go_with_their_experts(experts):
    for _ in range(2):
        await delivered(experts, ([("a", 2), ("b", 2)], False))
    one = {key: experts.expert("m", key) for key in "ab"}
    assert experts.bundle(one) is experts.bundle(one)
    alone = sum(experts.expert("m", key).nbytes for key in "abc")
    assert experts.nbytes == alone + experts.bundle(one).nbytes
    experts.forget(["a"])
    assert experts.nbytes == alone - one["a"].nbytes
    experts.bundle(one)  # a pass that had the expert in hand when it was forgotten
    assert experts.nbytes == alone - one["a"].nbytes


async def test_bundles_take_no_room_beyond_that_of_experts_and_make_room_for_them(experts):
    a, b, c = ({key: experts.expert("m", key)} for key in "abc")
    alone, two = experts.nbytes, experts.bundle(a | b).nbytes
    experts.capacity = alone + two + 1
    newer = experts.bundle(b | c)
    assert experts.nbytes == alone + two, "there is room for one"
    assert experts.bundle(b | c) is newer
    experts._keep("d", made(7))
    assert experts.nbytes == alone + two // 2, "it goes before any expert does"
    assert experts.count == 4
    experts.capacity = experts.nbytes
    assert experts.bundle(a | b) is not experts.bundle(a | b)
    assert experts.nbytes == experts.capacity


def test_rows_made_ahead_are_those_of_their_expert_and_classes_and_nobody_elses(experts, monkeypatch):
    noise = np.random.default_rng(5).standard_normal((6, NOISE), np.float32)
    monkeypatch.setattr(passes, "fresh", lambda rows, _: noise[:rows])
    c, stock = np.array([1, 0, 1, 1, 0, 1]), Stock()
    passes.ahead(Order("m", "a", PIXELS, c), experts, stock)
    x = experts.expert("m", "a").generate(torch.from_numpy(noise), torch.from_numpy(c))
    of_class_1 = {row.tobytes() for row in PIXELS.of(x).numpy()[c == 1]}
    assert {row[0].tobytes() for row in in_stock(stock, "a")} == of_class_1
    assert len(of_class_1) == 4
    assert stock.count("a", 0, PIXELS) == 2


def test_rows_made_ahead_are_not_kept_if_something_is_forgotten_meanwhile(experts, monkeypatch):
    stock = Stock()

    def forgets(rows, noise_dim):
        stock.forget(["b"])
        return np.zeros((rows, noise_dim), np.float32)

    monkeypatch.setattr(passes, "fresh", forgets)
    passes.ahead(Order("m", "a", PIXELS, np.array([0, 1])), experts, stock)
    assert stock.nbytes == 0


def test_an_expert_that_is_gone_has_nothing_made_ahead(experts):
    with pytest.raises(Superseded):
        passes.ahead(Order("m", "z", PIXELS, np.array([0])), experts, Stock())
