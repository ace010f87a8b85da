"""The task solver's training, where time is short."""

import torch

from dgm_core import lesson as lessons
from dgm_core.lesson import Lesson
from dgm_core.manifest import DataSpec
from dgm_core.networks.classifiers import Classifier
from dgm_core.training.classifying import Pool, positions
from dgm_core.training.clock import FEWEST_STEPS, Clock

SPEC = DataSpec((2,), "float32")
POOL = Pool(torch.randn(20, 2), torch.arange(20) % 2)


def walked(monkeypatch, limit, seconds_a_step, classes=2):
    """Where the schedule of 300 steps stood at each step of a solver's training that began after 90 seconds."""
    now, seen = [0.0], []

    def trained(spec, heads, pools, steps, pace, share):
        for at in positions(steps, pace):
            seen.append(at)
            now[0] += seconds_a_step
        return Classifier(spec, heads)

    monkeypatch.setattr(lessons, "train_classifier", trained)
    clock = Clock(lambda progress: None, limit, now=lambda: now[0])
    now[0] = 90.0
    Lesson(SPEC, tuple(range(classes)), None, 300, 10, 0, clock, torch.device("cpu")).solver_on([POOL])
    return seen


def test_without_a_limit_every_step_is_taken(monkeypatch):
    assert walked(monkeypatch, None, 1.0) == list(range(300))


def test_with_time_for_few_steps_they_are_spread_over_the_whole_schedule(monkeypatch):
    assert walked(monkeypatch, 100.0, 0.125) == [300 * step // 80 for step in range(80)]


def test_with_no_time_left_the_fewest_steps_are_spread_over_the_whole_schedule(monkeypatch):
    assert walked(monkeypatch, 80.0, 1.0) == [300 * step // FEWEST_STEPS for step in range(FEWEST_STEPS)]


def test_a_class_that_is_alone_takes_one_step_in_any_case(monkeypatch):
    assert walked(monkeypatch, 80.0, 1.0, classes=1) == walked(monkeypatch, None, 1.0, classes=1) == [0]
