import gc
import weakref
from unittest.mock import Mock

import pytest
import torch

from memory_server.errors import SolverRetraining, Superseded, UnknownMemory
from memory_server.sampling import experts
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.plan import Reduced

CPU = torch.device("cpu")


def cache_of(learned, capacity=1 << 30):
    revisions, blobs = learned
    asked = []

    def newest(memory):
        asked.append(memory)
        if memory != "m":
            raise UnknownMemory(memory, ["m"])
        return revisions[-1]

    return ExpertCache(newest, blobs, CPU, capacity), [expert.digest for _, expert in revisions[-1].experts()], asked


def test_an_expert_is_loaded_once(learned):
    cache, (first, *_), asked = cache_of(learned)
    expert = cache.expert("m", first)
    assert expert.digest == first
    assert cache.expert("m", first) is expert
    assert asked == ["m"]


def test_beyond_its_capacity_the_expert_that_came_last_is_kept(learned):
    cache, digests, _ = cache_of(learned)
    size = max(cache.expert("m", digest).nbytes for digest in digests)
    cache, (first, second, *_), asked = cache_of(learned, capacity=size)
    cache.expert("m", first)
    cache.expert("m", second)
    assert cache.nbytes <= size
    asked.clear()
    cache.expert("m", second)
    assert asked == []
    cache.expert("m", first)
    assert asked == ["m"]


class Loading(ExpertCache):
    """Experts of a byte each, by any name; counts how many are loaded."""

    def __init__(self, capacity):
        super().__init__(lambda memory: None, {}, CPU, capacity)
        self.loaded = 0

    def _made(self, memory, key):
        self.loaded += 1
        expert = Mock(nbytes=1)
        expert.to.return_value = expert
        return expert

    def loaded_for(self, keys):
        """How many are loaded when these are wanted one after the other."""
        before = self.loaded
        for key in keys:
            self.expert("m", key)
        return self.loaded - before


def test_most_experts_that_are_wanted_in_turn_are_there_though_they_do_not_quite_fit():
    cache, turn = Loading(190), [f"e{i}" for i in range(200)]
    cache.loaded_for(turn * 3)
    assert 10 * 20 <= cache.loaded_for(turn * 20) < 30 * 20, "of 200 each time, 10 of which cannot be there"
    assert cache.nbytes == 190


def test_experts_that_nobody_wants_any_more_make_room_for_those_that_are_wanted():
    cache = Loading(100)
    cache.loaded_for([f"old{i}" for i in range(100)])
    turn = [f"new{i}" for i in range(60)]
    cache.loaded_for(turn * 10)
    assert cache.loaded_for(turn * 10) == 0


def test_an_expert_larger_than_the_capacity_serves_all_the_same(learned):
    cache, (first, *_), asked = cache_of(learned, capacity=1)
    assert cache.expert("m", first) is cache.expert("m", first)
    assert asked == ["m"]


def test_an_expert_of_a_memory_that_is_gone_is_not_found(learned):
    cache, (first, *_), _ = cache_of(learned)
    with pytest.raises(UnknownMemory):
        cache.expert("gone", first)


def test_the_solver_is_that_of_the_newest_revision(learned):
    cache, _, _ = cache_of(learned)
    manifest, solver = cache.solver("m")
    assert manifest.revision == 2
    assert set(solver.classes) == {0, 1, 2, 3}
    assert cache.solver("m")[1] is solver


@pytest.mark.parametrize("made_for_it", [True, False])
def test_precision_is_reduced_where_the_device_is_made_for_it(learned, monkeypatch, made_for_it):
    monkeypatch.setattr(experts, "has_bfloat16", lambda device: made_for_it)
    cache, (first, *_), _ = cache_of(learned)
    full, reduced = cache.expert("m", first), cache.expert("m", Reduced(first))
    assert cache.expert("m", Reduced(first)) is reduced is not full
    assert reduced.digest == first
    assert reduced.nbytes == (full.nbytes / 2 if made_for_it else full.nbytes)
    assert (cache.signature(Reduced(first)) == cache.signature(first)) == (not made_for_it)


# Forgetting


@pytest.fixture
def forgetful(learned):
    """A cache of a memory that will have forgotten its second task; `present` is its newest revision."""
    revisions, blobs = learned
    present = [revisions[-1]]
    return ExpertCache(lambda memory: present[0], blobs, CPU, 1 << 30), present


def test_nothing_of_a_forgotten_expert_stays_in_memory(forgetful):
    cache, present = forgetful
    kept, lost = (expert.digest for _, expert in present[0].experts())
    first, second, reduced = (cache.expert("m", key) for key in (kept, lost, Reduced(lost)))
    cache.solver("m")
    left = [weakref.ref(one) for one in (second, reduced, cache.solver("m")[1])]
    present[0] = present[0].without("t1")
    cache.forget({lost})
    assert cache.nbytes == first.nbytes
    del second, reduced
    gc.collect()
    assert [one() for one in left] == [None, None, None]


def test_an_expert_that_remains_is_served_on_from_the_cache_and_anew(forgetful):
    cache, present = forgetful
    kept, lost = (expert.digest for _, expert in present[0].experts())
    first = cache.expert("m", kept)
    present[0] = present[0].without("t1")
    cache.forget({lost})
    assert cache.expert("m", kept) is first
    cache.forget({kept})
    assert cache.expert("m", kept).digest == kept


def test_a_tile_of_a_task_that_has_just_been_forgotten_says_to_open_the_stream_again(forgetful):
    cache, present = forgetful
    _, lost = (expert.digest for _, expert in present[0].experts())
    present[0] = present[0].without("t1")
    with pytest.raises(Superseded, match="open the stream again"):
        cache.expert("m", lost)


def test_a_solver_that_was_dropped_is_said_to_be_trained_anew(forgetful):
    cache, present = forgetful
    cache.solver("m")
    present[0] = present[0].without("t1")
    with pytest.raises(SolverRetraining, match="trained anew"):
        cache.solver("m")


def test_a_blob_that_is_lost_is_not_taken_for_a_forgotten_one(learned):
    revisions, blobs = learned
    manifest = revisions[-1]
    for lost in (manifest.tasks[0].blob, manifest.shared["solver"]):
        cache = ExpertCache(lambda memory: manifest, {key: blobs[key] for key in blobs if key != lost}, CPU, 1 << 30)
        with pytest.raises(KeyError):
            cache.solver("m")
    cache = ExpertCache(lambda memory: manifest, {}, CPU, 1 << 30)
    with pytest.raises(KeyError):
        cache.expert("m", manifest.tasks[0].experts[0].digest)
