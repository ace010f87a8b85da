"""Samples in reduced precision, by the SDK and over a real socket."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from memory_api.v1 import memory_pb2 as pb
from memory_client import InvalidInput, Memory
from memory_client.aio import Memory as AsyncMemory
from memory_client.torch import ReplayDataset

from dgm_core.precision import has_bfloat16

DIFFERENT = has_bfloat16(torch.device("cpu"))
"""Elsewhere reduced precision is the full one."""


@pytest.fixture
def memory(server, taught) -> Iterator[Memory]:
    with Memory(server.target, taught) as memory:
        yield memory


def test_the_same_examples_come_a_few_grey_levels_away(memory):
    (full, y), (reduced, labels) = (memory.sample(n=500, seed=6, precision=each) for each in ("full", "reduced"))
    difference = np.abs(full.astype(int) - reduced)
    assert np.array_equal(y, labels)
    assert difference.mean() < 3
    assert difference.any() == DIFFERENT


def test_a_seeded_stream_is_a_function_of_its_request_whatever_else_is_asked_for(wire, taught):
    asked = {"n": 300, "batch_size": 64, "seed": 3, "precision": pb.REDUCED}
    whole = wire.sample(taught, **asked)
    full = wire.sample(taught, **asked | {"precision": pb.FULL})
    for start in (1, 3):
        assert wire.sample(taught, **asked, start_at=start).x == whole.x[64 * 64 * start :]
    assert (full.x != whole.x) == DIFFERENT
    assert full.x == wire.sample(taught, n=300, batch_size=64, seed=3).x  # which is what a memory gives by itself


def test_unseeded_batches_are_balanced_over_the_classes(memory):
    with memory.stream(batch_size=40, precision="reduced") as batches:
        for _ in range(5):
            x, y = next(batches)
            assert x.shape == (40, 1, 8, 8) and x.std() > 10
            assert np.array_equal(np.bincount(y), [10, 10, 10, 10])


async def test_loaders_and_asyncio_have_it_too(server, taught, memory):
    expected, _ = memory.sample(n=64, seed=9, precision="reduced")
    (x, _), *_ = ReplayDataset(memory, batch_size=64, seed=9, n=64, precision="reduced")
    assert np.array_equal(x.numpy(), expected)
    async with AsyncMemory(server.target, taught) as other:
        x, _ = await other.sample(n=64, seed=9, precision="reduced")
        assert np.array_equal(x, expected)
        async with other.stream(batch_size=64, seed=9, n=64, precision="reduced") as batches:
            assert np.array_equal((await anext(batches))[0], expected)


def test_another_precision_is_refused_before_anything_is_asked(memory):
    with pytest.raises(InvalidInput, match="pass 'full' or 'reduced'"):
        memory.sample(precision="half")
