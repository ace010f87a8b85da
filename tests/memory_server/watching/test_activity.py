from dataclasses import replace

import pytest

from dgm_core.memory import Progress
from memory_server.learning.messages import Renewal
from memory_server.learning.status import TaskStatus
from memory_server.store.records import TaskRecord, TaskState
from memory_server.watching.activity import Activity


def at(state: TaskState, task: str = "t0", step: int | None = None, phase: str = "generator") -> TaskStatus:
    record = TaskRecord("digits", task, (0, 1), 40, "d0")
    progress = None if step is None else Progress(phase, step, 100, step / 100, metrics={"critic_loss": 0.5})
    return TaskStatus(replace(record, state=state), progress=progress)


class Watched:
    """An activity whose clock the test moves."""

    def __init__(self):
        self.now = 0.0
        self.activity = Activity(lambda: self.now)

    def after(self, seconds: float, *statuses: TaskStatus) -> Activity:
        self.now += seconds
        for status in statuses:
            self.activity.changed(status)
        return self.activity


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_the_oldest_of_the_queued_tasks_says_how_long_they_wait(watched):
    watched.after(0, at(TaskState.QUEUED))
    watched.after(3, at(TaskState.QUEUED, "t1"), replace(at(TaskState.QUEUED), waiting_for="queued behind another"))
    assert watched.after(4).longest_wait == 7
    assert watched.after(0, at(TaskState.LEARNING)).longest_wait == 4
    assert watched.after(0, at(TaskState.CANCELLED, "t1")).longest_wait == 0
    assert watched.activity.states == {TaskState.LEARNING: 1}


def test_a_run_is_silent_until_its_step_or_its_phase_changes(watched):
    watched.after(0, at(TaskState.LEARNING))
    assert watched.after(5).silence == 5
    assert watched.after(0, at(TaskState.LEARNING, step=1)).silence == 0
    assert watched.after(5, at(TaskState.LEARNING, step=1)).silence == 5, "the same step again is no progress"
    assert watched.after(0, at(TaskState.LEARNING, step=1, phase="quality")).silence == 0
    assert watched.after(5, at(TaskState.COMMITTING)).silence == 0
    assert watched.after(5, at(TaskState.LEARNED)).silence == 0 and not watched.activity.states


def test_of_several_runs_the_stillest_counts_and_a_place_that_becomes_free_is_taken_again(watched):
    watched.after(0, at(TaskState.LEARNING, "t0"))
    watched.activity.renewing(Renewal.SOLVER, "letters", None)
    watched.after(2, at(TaskState.LEARNING, "t0", step=1))
    assert watched.activity.silence == 2
    watched.activity.renewed(Renewal.SOLVER, "letters", TaskState.LEARNED, 0)
    watched.after(0, at(TaskState.LEARNING, "t2", step=7))
    assert [(run.place, run.progress.step) for run in watched.activity.runs] == [(0, 1), (1, 7)]
    assert watched.activity.silence == 0
