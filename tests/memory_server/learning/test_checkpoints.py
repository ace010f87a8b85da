"""What becomes of the checkpoint of a task when the task ends."""

import asyncio
import errno
import threading
from dataclasses import astuple
from pathlib import Path

import pytest
import torch

from dgm_core.checkpoints import State
from dgm_core.errors import Cancelled, QualityTooLow, TrainingDiverged
from dgm_core.memory import Terms
from memory_server.learning.endings import CANCELLED, SERVER_STOPPED, Ending
from memory_server.learning.errors import TaskTimedOut, WorkerDied, WorkerSilent
from memory_server.learning.queue import TaskQueue
from memory_server.learning.resuming import SealedCheckpoints
from memory_server.store.checkpoints import CHECKPOINTS, CheckpointStore
from memory_server.store.errors import NotForgotten
from memory_server.store.records import TaskRecord, TaskState
from memory_server.store.sealing import SealingKey
from tests.memory_server.learning.fakes import finished


@pytest.fixture
def checkpoints(store) -> CheckpointStore:
    return CheckpointStore(store.path / CHECKPOINTS, SealingKey.new(), 60.0)


@pytest.fixture
async def queue(store, teacher, witness, checkpoints):
    queue = TaskQueue(store, teacher, witness, heartbeat=0.05, checkpoints=checkpoints)
    yield queue
    await queue.close()


@pytest.fixture
def put_down(queue, teacher, submit):
    """Sends a task that puts down its state, and returns where."""

    async def put_down(task="t0", **submitted):
        await submit(queue, task, **submitted)
        await teacher.teaches(task)
        slot = teacher.slots[task]
        slot.write(b"state")
        return slot

    return put_down


async def test_a_task_that_was_learned_leaves_no_checkpoint(queue, teacher, put_down):
    slot = await put_down()
    await teacher.succeed("t0")
    assert (await finished(queue, "t0")).record.state is TaskState.LEARNED
    assert not Path(slot.path).exists()


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (WorkerDied(-9), True),
        (WorkerSilent(300), True),
        (QualityTooLow("0.2 is below 0.5"), False),
        (TrainingDiverged("critic_loss became nan"), False),
        (TaskTimedOut(60), False),
        (RuntimeError("boom"), False),
    ],
)
async def test_a_checkpoint_outlives_what_stopped_the_worker_but_no_failure_of_the_task(
    error, kept, queue, teacher, put_down
):
    slot = await put_down()
    await teacher.fail("t0", error)
    assert (await finished(queue, "t0")).record.state is TaskState.FAILED
    assert Path(slot.path).exists() == kept
    assert (await put_down()) == slot, "sent again, the task goes on from there"


async def test_other_data_other_terms_and_another_revision_are_another_attempt(queue, teacher, put_down):
    slots = [await put_down()]
    for changed in ({"digest": "d1"}, {"terms": Terms(steps=9)}):
        await teacher.fail("t0", WorkerDied(-9))
        await finished(queue, "t0")
        slots.append(await put_down(**changed))
        assert not Path(slots[-2].path).exists()
    await teacher.fail("t0", WorkerDied(-9))
    await finished(queue, "t0")
    await put_down("t1")
    await teacher.succeed("t1")
    await finished(queue, "t1")
    slots.append(await put_down())
    assert len({slot.path for slot in slots}) == 4


async def test_a_cancelled_task_and_a_deleted_memory_leave_no_checkpoint(queue, put_down, store):
    slot = await put_down()
    await queue.cancel("digits", "t0")
    assert not Path(slot.path).exists()
    slot = await put_down("t1")
    await queue.delete("digits")
    assert not Path(slot.path).exists()


async def test_a_forgotten_task_leaves_no_checkpoint(queue, teacher, put_down):
    slot = await put_down()
    await teacher.fail("t0", WorkerDied(-9))
    await finished(queue, "t0")
    await queue.forget("digits", "t0")
    assert not Path(slot.path).exists()


@pytest.fixture
def upon_another(queue, teacher, submit, put_down):
    """A task is learned; the next one, which stands on it, fails and leaves its state, which this gives."""

    async def upon_another():
        await submit(queue, "t0")
        await teacher.succeed("t0")
        await finished(queue, "t0")
        slot = await put_down("t1")
        await teacher.fail("t1", WorkerDied(-9))
        await finished(queue, "t1")
        assert Path(slot.path).exists()
        return slot

    return upon_another


async def test_before_a_learned_task_is_forgotten_what_was_being_trained_upon_it_goes(
    queue, store, upon_another, monkeypatch
):
    slot = await upon_another()
    forget, there = store.forget, []

    def looking(*names):
        there.append(Path(slot.path).exists())
        return forget(*names)

    monkeypatch.setattr(store, "forget", looking)
    await queue.forget("digits", "t0")
    assert there == [False]
    assert (await queue.status("digits", "t1")).record.state is TaskState.FAILED


async def test_a_task_is_not_forgotten_while_the_disk_keeps_what_was_trained_upon_it(
    queue, store, upon_another, monkeypatch
):
    slot = await upon_another()
    before = store.catalog.manifest("digits")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _stuck)
        with pytest.raises(NotForgotten, match=r"nothing was forgotten: a checkpoint of the memory.*ask again"):
            await queue.forget("digits", "t0")
    assert store.catalog.manifest("digits") == before
    await queue.forget("digits", "t0")
    assert not Path(slot.path).exists()
    assert store.catalog.manifest("digits").tasks == ()


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        (SERVER_STOPPED, True),
        (Ending(TaskState.FAILED, "", "WORKER_DIED"), True),
        (Ending(TaskState.FAILED, "", "QUALITY_TOO_LOW"), False),
        (CANCELLED, False),
        (Ending(TaskState.LEARNED), False),
        (None, False),
    ],
)
async def test_what_a_server_could_not_remove_that_was_killed_is_gone_once_the_next_one_has_started(
    end, kept, store, teacher, witness, manifest, checkpoints
):
    store.admit(TaskRecord("digits", "t0", (0, 1), 40, "d0"), manifest)
    slot = checkpoints.slot("digits", "t0", "a0")
    slot.write(b"state")
    if end is None:
        store.delete_memory("digits")
    else:
        store.catalog.set_state("digits", "t0", *astuple(end))
    TaskQueue(store, teacher, witness, checkpoints=checkpoints)
    assert Path(slot.path).exists() == kept


async def test_a_disk_that_lets_no_checkpoint_go_holds_up_neither_the_queue_nor_an_end(
    queue, teacher, submit, put_down, monkeypatch
):
    slot = await put_down()
    for task in ("t1", "t2"):
        await submit(queue, task)
    monkeypatch.setattr(Path, "unlink", _stuck)
    async with asyncio.timeout(10):
        await teacher.fail("t0", QualityTooLow("0.2 is below 0.5"))
        assert (await finished(queue, "t0")).record.error_reason == "QUALITY_TOO_LOW"
        await teacher.teaches("t1")
        for task in ("t1", "t2"):
            assert (await queue.cancel("digits", task)).record.state is TaskState.CANCELLED
        await queue.delete("digits")
        await queue.close()
    assert Path(slot.path).exists()


async def test_a_server_that_ends_has_its_workers_put_down_what_they_train(queue, put_down, store):
    slot = await put_down()
    await queue.close(grace=10)
    assert store.catalog.task("digits", "t0").error_reason == "TASK_INTERRUPTED"
    assert Path(slot.path).exists()


def test_a_worker_puts_down_its_state_in_time_and_ends_when_it_is_told_to(checkpoints):
    now, ending, state = [0.0], threading.Event(), State({"w": torch.arange(3.0)}, {"steps": 7})
    kept = SealedCheckpoints(checkpoints.slot("digits", "t0", "a0"), ending, lambda: now[0])
    assert kept.found() is None
    assert not kept.due()
    now[0] = 60.0
    assert kept.due()
    kept.keep(state)
    assert not kept.due()
    found = SealedCheckpoints(checkpoints.slot("digits", "t0", "a0"), ending).found()
    assert (found.values, found.tensors["w"].tolist()) == ({"steps": 7}, [0.0, 1.0, 2.0])
    ending.set()
    assert kept.due()
    with pytest.raises(Cancelled):
        kept.keep(state)


def test_a_full_disk_costs_the_checkpoint_and_not_the_task(checkpoints, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memory_server.store.checkpoints.os.fsync", full)
    kept = SealedCheckpoints(checkpoints.slot("digits", "t0", "a0"), threading.Event())
    kept.keep(State({}, {}))
    assert kept.found() is None


def _stuck(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")
