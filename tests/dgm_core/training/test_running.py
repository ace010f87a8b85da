"""A training along a schedule, on a clock that the test conducts."""

import pytest
import torch
from torch import nn

from dgm_core.checkpoints import NONE
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.clock import Clock
from dgm_core.training.running import (
    FEWEST_NORM_BATCHES,
    FEWEST_PROBES,
    NORM_BATCHES,
    Run,
    norm_batches,
)
from dgm_core.training.trainees import PROBE_STEPS, Free

WANTED = 1000


class Time:
    """Moves on with every step."""

    def __init__(self, limit=None):
        self.now, self.reports = 0.0, []
        self.clock = Clock(self.reports.append, limit, now=lambda: self.now)


class Slow:
    """A step of so many seconds."""

    def __init__(self, time, seconds):
        self.time, self.seconds = time, seconds
        self.g, self.losses = Free(nn.Linear(1, 1)), {"loss": torch.zeros(())}

    def __call__(self, batches):
        self.time.now += self.seconds

    def tensors(self):
        return {}

    def remembered(self):
        return {}

    def resume(self, state, taken):
        raise AssertionError("nothing was put down")


def run(time, seconds, wanted=WANTED):
    batches = BalancedBatches(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), 1)
    running = Run(Slow(time, seconds), batches, wanted, 0.0, time.clock, NONE)
    running.whole()
    return running.trained.steps


@pytest.mark.parametrize("seconds", [0.001, 0.4, 1.7, 9.0])
def test_a_limit_holds_however_long_a_step_takes(seconds):
    time = Time(limit=20.0)
    steps = run(time, seconds)
    assert steps >= FEWEST_PROBES
    assert time.now <= 0.85 * 20 + FEWEST_PROBES * seconds, "the generator's share of it, and a step that was begun"


def test_without_a_limit_all_steps_are_taken_and_the_first_ones_tell_how_long_that_takes():
    time = Time()
    assert run(time, 2.0, wanted=100) == 100
    assert time.clock.expected == pytest.approx(100 * 2.0 / 0.85)


def test_the_first_steps_are_reported_too():
    time = Time()
    run(time, 2.0, wanted=PROBE_STEPS)
    assert [report.step for report in time.reports][:4] == [0, 1, 2, 3]


def test_norms_are_measured_with_fewer_batches_where_time_is_short():
    for limit, taken in ((None, NORM_BATCHES), (1000.0, NORM_BATCHES), (20.0, FEWEST_NORM_BATCHES)):
        time, counted = Time(limit), 0
        for _ in norm_batches(time.clock, WANTED):
            time.now += 1.0
            counted += 1
        assert (counted, len(time.reports)) == (taken, taken)
