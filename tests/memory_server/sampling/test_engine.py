"""Classify: computed apart from what everybody needs, and for those alone who still wait for it."""

import asyncio
import threading
from contextlib import closing

import pytest
import torch

from memory_server.sampling.engine import SamplingEngine

ROWS = 600
"""Of one call: computed in three parts."""


class Solver:
    classes = (0, 1)

    def __init__(self):
        self.parts = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def probabilities(self, rows):
        self.parts.append(len(rows))
        self.begun.set()
        assert self.go_on.wait(60)
        return torch.full((len(rows), 2), 0.5)


class Experts:
    """Those of one memory, and a solver that a test holds up."""

    device = torch.device("cpu")

    def __init__(self, manifest):
        self.manifest = manifest
        self.held = Solver()

    def signature(self, key):
        return None

    def holds(self, key):
        return False

    def solver(self, memory, task):
        return self.manifest, self.held


@pytest.fixture
def experts(learned):
    return Experts(learned[0][1])


@pytest.fixture
def engine(experts):
    with closing(SamplingEngine(lambda memory, revision: experts.manifest, experts, threads=1)) as engine:
        yield engine
        experts.held.go_on.set()


def classify(engine):
    return asyncio.create_task(engine.classify("digits", torch.zeros(ROWS, 1, 8, 8)))


async def test_what_is_computed_part_by_part_is_the_whole(engine, experts):
    experts.held.go_on.set()
    classified = await classify(engine)
    assert classified.probabilities.shape == (ROWS, 2)
    assert experts.held.parts == [256, 256, 88]


async def test_nothing_is_begun_for_a_caller_that_is_gone(engine, experts):
    first, second = classify(engine), classify(engine)
    await asyncio.to_thread(experts.held.begun.wait, 60)
    for call in (first, second):
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    experts.held.go_on.set()
    await classify(engine)
    assert experts.held.parts == [256, 256, 256, 88], "one part had begun when both were there no more"


async def test_any_number_of_calls_leave_the_threads_of_the_others_free(engine, experts):
    calls = [classify(engine) for _ in range(100)]
    await asyncio.to_thread(experts.held.begun.wait, 60)
    async with asyncio.timeout(5):
        await asyncio.to_thread(len, calls)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
