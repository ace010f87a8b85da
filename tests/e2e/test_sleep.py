"""Memories that retrain what they hold, over a real socket: sleep, what it changes, and what is refused."""

import threading

import numpy as np
import pytest
from memory_client import CannotSleep, Memory, TaskInUse, TaskRejected, UnknownRevision, UnknownTask

DUAL = {"width": 4, "noise": 8, "recipe": "paper", "learner": "8", "short_term": 2}


def teach(memory, task, first, **terms):
    """Teaches vectors of two classes; gives some of them."""
    y = np.arange(60) % 2 + first
    x = np.random.default_rng(first).normal(y[:, None], 0.1, (60, 6)).astype(np.float32)
    memory.learn_task((x, y), task, steps=20, progress=False, **terms)
    return x[:8]


def sampled(memory):
    return [part.tolist() for part in memory.sample(n=24, seed=7)]


@pytest.fixture
def dual(server, name):
    with Memory(server.target, name, kind="dual", options=DUAL) as memory:
        yield memory


def test_a_memory_that_holds_enough_sleeps_and_everyone_sees_what_changed(dual):
    teach(dual, "t0", 0)
    pinned = dual.stream(seed=1, batch_size=1024)
    next(pinned)
    seen = []
    watching = threading.Thread(target=lambda: seen.extend(dual.task("t0").watch(until="consolidated")), daemon=True)
    watching.start()
    x = teach(dual, "t1", 2)
    watching.join(300)
    assert not seen[0].consolidated and seen[-1].consolidated
    info = dual.describe()
    assert (info.consolidated, [task.consolidated for task in info.analysis]) == (2, [True, True])
    assert all(task.consolidated and task.revision == info.revision for task in dual.tasks())
    with pytest.raises(UnknownRevision):
        _ = list(pinned)
    with pytest.raises(TaskInUse, match="it is consolidated into one generator"):
        dual.forget("t0")
    with pytest.raises(CannotSleep, match="has nothing to consolidate"):
        dual.sleep()
    labels, probabilities = dual.classify(x, task="t1")
    assert set(labels) <= {2, 3} and probabilities.shape == (8, 2)
    with pytest.raises(UnknownTask, match="no task 't9'; the tasks are 't0', 't1'"):
        dual.classify(x, task="t9")
    with pytest.raises(UnknownTask, match="no task 't9'"):
        teach(dual, "t2", 0, revises="t9")


@pytest.mark.slow
def test_a_server_with_nothing_to_learn_has_its_memories_sleep_if_it_is_told_to(new_server, eventually):
    idle = new_server(sleep_when_idle=0.2).start()
    with Memory(idle.target, "idle", kind="dual", options=DUAL) as memory:
        teach(memory, "t0", 0)
        eventually(lambda: memory.describe().consolidated == 1)


@pytest.mark.slow
def test_it_sleeps_when_asked_and_learns_tasks_again_and_is_the_same_as_a_file(dual, server, name, tmp_path):
    teach(dual, "t0", 0)
    before = dual.describe().revision
    info = dual.sleep()
    assert (info.revision, info.consolidated) == (before + 1, 1)
    teach(dual, "again", 0, revises="t0")
    assert [task.consolidated for task in dual.tasks()] == [True, False]
    dual.export(tmp_path / "dual.memory", progress=False)
    with Memory.import_file(server.target, tmp_path / "dual.memory", f"{name}2", progress=False) as copy:
        assert sampled(copy) == sampled(dual)
        assert [task.consolidated for task in copy.tasks()] == [True, False]


@pytest.mark.slow
def test_a_generator_that_is_retrained_at_once_revises_what_it_held(server, name):
    with Memory(server.target, name, kind="dgr", options={"width": 4, "noise": 8}) as memory:
        teach(memory, "t0", 0)
        pinned = memory.stream(seed=1, batch_size=1024)
        next(pinned)
        with pytest.raises(TaskRejected, match="a memory of kind dgr does not repeat tasks"):
            teach(memory, "t1", 2, revises="t0")
        teach(memory, "t1", 2)
        assert [task.consolidated for task in memory.tasks()] == [True, True]
        with pytest.raises(UnknownRevision):
            _ = list(pinned)
        with pytest.raises(TaskInUse, match="delete the memory"):
            memory.forget("t0")
        with pytest.raises(CannotSleep, match="of kind dgr"):
            memory.sleep()
