from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from dgm_core.memory import Progress
from memory_server.learning.endings import REASONS
from memory_server.learning.messages import Renewal
from memory_server.store.records import TaskState
from memory_server.watching.learning import LearningCounters
from tests.memory_server.watching.test_activity import at


class Counted:
    """Counters whose clock the test moves."""

    def __init__(self):
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.counters = LearningCounters(self.registry, lambda: self.now)

    def after(self, seconds, status):
        self.now += seconds
        self.counters.changed(status)

    def value(self, name, **labels):
        return self.registry.get_sample_value(f"memory_server_{name}", labels)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_steps_and_their_time_are_counted_from_one_report_to_the_next_of_the_same_phase(counted):
    for step in (0, 10, 40):
        counted.after(2, at(TaskState.LEARNING, step=step))
    counted.after(9, at(TaskState.LEARNING, step=5, phase="quality"))
    counted.after(1, at(TaskState.LEARNING, step=6, phase="quality"))
    steps = {phase: counted.value("training_steps_total", phase=phase) for phase in ("generator", "quality")}
    seconds = {phase: counted.value("training_seconds_total", phase=phase) for phase in ("generator", "quality")}
    assert (steps, seconds) == ({"generator": 40, "quality": 1}, {"generator": 4, "quality": 1})


def test_a_task_that_ends_is_counted_once_with_its_reason_and_its_times(counted):
    for seconds, state in ((0, TaskState.QUEUED), (5, TaskState.LEARNING), (7, TaskState.COMMITTING)):
        counted.after(seconds, at(state))
    counted.after(2, at(TaskState.LEARNED))
    assert counted.value("tasks_ended_total", state="LEARNED", reason="") == 1
    assert (counted.value("learn_seconds_sum"), counted.value("commit_seconds_sum")) == (7, 2)
    assert counted.value("commit_failures_total") == 0


@pytest.mark.parametrize(("told", "reason"), [("WORKER_DIED", "WORKER_DIED"), ("made up", "OTHER"), ("", "OTHER")])
def test_reasons_that_the_wire_has_no_name_for_are_one(counted, told, reason):
    failed = at(TaskState.FAILED)
    counted.after(0, at(TaskState.LEARNING))
    counted.after(0, replace(failed, record=replace(failed.record, error_reason=told)))
    assert counted.value("tasks_ended_total", state="FAILED", reason=reason) == 1
    assert counted.value("commit_failures_total") == 0


def test_what_alerts_are_about_begins_at_zero(counted):
    for reason in {*REASONS.values(), "OTHER"}:
        assert counted.value("tasks_ended_total", state="FAILED", reason=reason) == 0
    for name in ("retrainings_total", "sleeps_total"):
        assert counted.value(name, state="FAILED") == 0


def test_a_task_that_fails_while_it_is_committed_is_a_commit_that_failed(counted):
    counted.after(0, at(TaskState.COMMITTING))
    counted.after(0, at(TaskState.FAILED))
    assert counted.value("commit_failures_total") == 1


def test_retrainings_are_counted_by_how_they_end(counted):
    counted.counters.renewing(Renewal.SOLVER, "digits", None)
    counted.counters.renewing(Renewal.SOLVER, "digits", Progress("solver", 3, 100, 0.03))
    counted.now = 4.0
    counted.counters.renewing(Renewal.SOLVER, "digits", Progress("solver", 5, 100, 0.05))
    counted.counters.renewed(Renewal.SOLVER, "digits", TaskState.FAILED, 0)
    assert counted.value("training_steps_total", phase="solver") == 2
    assert counted.value("retrainings_total", state="FAILED") == 1


def test_sleeps_are_counted_and_timed_with_what_they_consolidated(counted):
    counted.counters.renewing(Renewal.SLEEP, "digits", None)
    counted.now += 7
    counted.counters.renewed(Renewal.SLEEP, "digits", TaskState.LEARNED, 3)
    assert counted.value("sleeps_total", state="LEARNED") == 1
    assert counted.value("sleep_seconds_sum") == 7
    assert counted.value("consolidated_tasks_total") == 3
