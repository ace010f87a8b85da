import pytest
import torch

from memory_server.errors import UnknownMemory
from memory_server.sampling.experts import ExpertCache

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


def test_beyond_its_capacity_the_least_recently_used_expert_is_dropped(learned):
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
