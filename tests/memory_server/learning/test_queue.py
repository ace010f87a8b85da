import asyncio
import errno
import signal
import sqlite3
import threading
import time
from contextvars import ContextVar
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from dgm_core.errors import QualityTooLow
from dgm_core.manifest import Manifest
from dgm_core.memory import Progress, Terms
from memory_server.errors import (
    ServerBusy,
    ShuttingDown,
    TaskExists,
    TaskFinished,
    UnknownMemory,
    UnknownTask,
)
from memory_server.learning.executor import LocalProcessExecutor
from memory_server.learning.lessons import Lessons
from memory_server.learning.observer import Observer, Observers
from memory_server.learning.queue import TaskQueue
from memory_server.store.catalog import INTERRUPTED
from memory_server.store.errors import NotDeleted, NotErased
from memory_server.store.records import TaskRecord, TaskState
from tests.memory_server.learning.fakes import NOTHING, finished, learned, restored, seen


@pytest.fixture
async def real_queue(store, gate, witness):
    executor = LocalProcessExecutor(store.blobs.directory, gate)
    queue = TaskQueue(store, executor, witness)
    yield queue
    await queue.close()


# States


async def test_a_task_is_queued_learned_committed_and_its_data_wiped(queue, teacher, submit, store, commits):
    status, buffer = await submit(queue, "t0")
    assert status.record.state is TaskState.QUEUED
    await teacher.succeed("t0")
    last = await finished(queue, "t0")
    assert (last.record.state, last.record.quality, last.record.revision) == (TaskState.LEARNED, 0.9, 1)
    assert commits == [("digits", store.catalog.manifest("digits"))]
    assert set(store.blobs.values()) == {b"t0", b"solver t0"}
    assert buffer.wiped


async def test_progress_is_seen_by_those_who_watch(queue, teacher, submit):
    await submit(queue, "t0")
    await teacher.teaches("t0")
    progress = Progress("generator", 3, 10, 0.3, seconds_left=12.0)
    teacher.reports["t0"](progress)
    assert await anext(queue.watch("digits", "t0")) == await queue.status("digits", "t0")
    assert (await queue.status("digits", "t0")).progress == progress


async def test_a_waiting_task_says_what_it_waits_for(queue, teacher, submit):
    for task in ("t0", "t1", "t2"):
        await submit(queue, task)
    assert (await queue.status("digits", "t1")).waiting_for == "queued behind task t0 of memory digits"
    assert (await queue.status("digits", "t2")).waiting_for == "queued behind task t1 of memory digits"
    await queue.cancel("digits", "t1")
    assert (await queue.status("digits", "t2")).waiting_for == "queued behind task t0 of memory digits"
    await teacher.succeed("t0")
    await teacher.teaches("t2")
    assert (await queue.status("digits", "t2")).waiting_for == ""


async def test_a_waiting_task_says_where_it_stands_and_about_when_it_starts(queue, teacher, submit):
    for task in ("t0", "t1", "t2"):
        await submit(queue, task)
    await teacher.teaches("t0")
    teacher.reports["t0"](Progress("generator", 3, 10, 0.3, seconds_left=12.0))
    first, second = [await queue.status("digits", task) for task in ("t1", "t2")]
    assert (first.position, first.starts_in) == (1, 10.0)
    assert (second.position, second.starts_in) == (2, 70.0)  # a task takes a minute, as long as nothing better is known
    await queue.cancel("digits", "t1")
    assert ((last := await queue.status("digits", "t2")).position, last.starts_in) == (1, 10.0)
    await teacher.succeed("t0")
    await teacher.teaches("t2")
    assert ((last := await queue.status("digits", "t2")).position, last.starts_in) == (0, None)


async def test_memories_take_turns_and_the_tasks_of_each_keep_their_order(queue, teacher, submit):
    for task, memory in (("a0", "a"), ("a1", "a"), ("a2", "a"), ("b0", "b"), ("b1", "b")):
        await submit(queue, task, memory=memory)
    for task in ("a0", "a1", "b0", "a2", "b1"):
        await teacher.succeed(task)
    await finished(queue, "b1", "b")
    assert teacher.started == ["a0", "a1", "b0", "a2", "b1"]


async def test_tasks_of_different_memories_may_learn_at_one_time_but_never_two_of_one(store, teacher, submit, witness):
    queue = TaskQueue(store, teacher, witness, parallel=2)
    for task, memory in (("a0", "a"), ("a1", "a"), ("b0", "b")):
        await submit(queue, task, memory=memory)
    for task in ("a0", "b0"):  # in either order
        await teacher.teaches(task)
    assert sorted(teacher.started) == ["a0", "b0"]
    await teacher.succeed("a0")
    await teacher.teaches("a1")
    await queue.close()


async def test_all_tasks_are_listed_in_the_order_of_admission(queue, teacher, submit):
    for task in ("t0", "t1"):
        await submit(queue, task)
    await teacher.succeed("t0")
    await finished(queue, "t0")
    states = [(status.record.task, status.record.state.final) for status in await queue.tasks("digits")]
    assert states == [("t0", True), ("t1", False)]


async def test_an_unchanged_status_is_repeated_while_a_task_waits(queue, submit):
    await submit(queue, "t0")
    await submit(queue, "t1")
    watcher = queue.watch("digits", "t1")
    statuses = [await anext(watcher) for _ in range(4)]
    assert {status.record.state for status in statuses} == {TaskState.QUEUED}
    await watcher.aclose()


async def test_unknown_names_are_refused(queue, submit):
    await submit(queue, "t0")
    with pytest.raises(UnknownTask, match="t0"):
        await queue.status("digits", "t9")
    with pytest.raises(UnknownTask):
        await anext(queue.watch("digits", "t9"))
    with pytest.raises(UnknownMemory):
        await queue.tasks("birds")
    with pytest.raises(UnknownTask):
        await queue.cancel("digits", "t9")


# Repeated requests


async def test_the_same_task_sent_twice_at_once_is_learned_once(queue, teacher, submit):
    (_, first), (_, second) = await asyncio.gather(submit(queue, "t0"), submit(queue, "t0"))
    assert sorted((first.wiped, second.wiped)) == [False, True]
    await teacher.succeed("t0")
    await finished(queue, "t0")
    status, third = await submit(queue, "t0")
    assert status.record.state is TaskState.LEARNED
    assert third.wiped
    assert teacher.started == ["t0"]


async def test_other_data_under_the_same_name_is_refused_and_wiped(queue, submit, rows):
    await submit(queue, "t0")
    buffer = rows()
    with pytest.raises(TaskExists):
        await queue.submit(TaskRecord("digits", "t0", (0, 1), 40, "other"), buffer, NOTHING)
    assert buffer.wiped


async def test_a_task_that_failed_may_be_sent_again(queue, teacher, submit):
    await submit(queue, "t0")
    await teacher.fail("t0", QualityTooLow("0.2 is below 0.5"))
    assert (await finished(queue, "t0")).record.error_reason == "QUALITY_TOO_LOW"
    status, _ = await submit(queue, "t0")
    assert (status.record.state, status.record.error) == (TaskState.QUEUED, "")
    await teacher.succeed("t0")
    assert (await finished(queue, "t0")).record.state is TaskState.LEARNED


async def test_a_task_is_admitted_even_if_the_client_goes_away_meanwhile(queue, teacher, submit, store):
    going = asyncio.create_task(submit(queue, "t0"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    await teacher.succeed("t0")
    assert (await finished(queue, "t0")).record.state is TaskState.LEARNED


# Failures


async def test_a_memory_that_is_taken_in_gets_what_it_lacks_even_if_the_client_goes_away(
    queue, teacher, store, manifest
):
    came, left = learned("t0", 0), threading.Event()
    content = {came.entry.blob: came.blobs[came.entry.blob]}

    def keep():
        left.wait(60)
        return store.create_memory("digits", replace(manifest, tasks=(came.entry,)), content)

    going = asyncio.create_task(queue.take_in(keep))
    await asyncio.sleep(0.05)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    left.set()
    await teacher.restores("t0")
    assert (await restored(store)).complete
    await queue.close()
    with pytest.raises(ShuttingDown, match="import the memory into the next one"):
        await queue.take_in(keep)


async def test_a_failed_task_leaves_the_memory_as_it_was_and_the_next_one_learns(
    queue, teacher, submit, store, manifest
):
    _, buffer = await submit(queue, "t0")
    await submit(queue, "t1")
    with capture_logs() as lines:
        await teacher.fail("t0", RuntimeError("boom"))
        last = await finished(queue, "t0")
    assert last.record.state is TaskState.FAILED
    assert "learning failed with RuntimeError" in last.record.error
    (line,) = (line for line in lines if line["log_level"] == "error")
    assert (line["memory"], line["task"], line["error"]) == ("digits", "t0", "RuntimeError")
    assert "fakes.py" in line["frames"][-1] and "in learn" in line["frames"][-1]
    assert "boom" not in last.record.error + str(lines), "it is an example, for all that the server knows"
    assert buffer.wiped
    assert store.catalog.manifest("digits") == manifest
    await teacher.succeed("t1")
    assert (await finished(queue, "t1")).record.revision == 1


async def test_a_full_disk_fails_the_task_and_leaves_the_memory_as_it_was(queue, teacher, submit, store, monkeypatch):
    def full(_content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "put", full)
        await submit(queue, "t0")
        await teacher.succeed("t0")
        last = await finished(queue, "t0")
    assert last.record.state is TaskState.FAILED
    assert "No space left on device" in last.record.error
    assert store.catalog.manifest("digits").revision == 0
    await submit(queue, "t0")
    await teacher.succeed("t0")
    assert (await finished(queue, "t0")).record.state is TaskState.LEARNED


async def test_a_task_ends_for_its_watchers_even_if_the_catalog_cannot_be_written(
    queue, teacher, submit, store, monkeypatch
):
    await submit(queue, "t0")
    await teacher.teaches("t0")

    def full(*_):
        raise OperationalError("UPDATE", None, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr(store.catalog, "set_state", full)
        await teacher.fail("t0", QualityTooLow("0.2 is below 0.5"))
        assert (await finished(queue, "t0")).record.state is TaskState.FAILED
    assert (await queue.status("digits", "t0")).record.error == "0.2 is below 0.5"
    assert store.catalog.task("digits", "t0").state is TaskState.LEARNING
    status, _ = await submit(queue, "t0")
    assert status.record.state is TaskState.QUEUED


async def test_a_full_disk_on_the_way_is_the_end_of_a_task_in_plain_words(queue, teacher, submit, store, monkeypatch):
    def full(memory, task, state, *_):
        if state is TaskState.COMMITTING:
            raise OperationalError("UPDATE tasks", None, sqlite3.OperationalError("database or disk is full"))
        return set_state(memory, task, state, *_)

    set_state = store.catalog.set_state
    monkeypatch.setattr(store.catalog, "set_state", full)
    await submit(queue, "t0")
    await teacher.succeed("t0")
    error = (await finished(queue, "t0")).record.error
    assert "disk is full" in error and "free space" in error
    assert "UPDATE" not in error and "OperationalError" not in error


async def test_a_memory_that_cannot_be_deleted_is_made_whole_again(queue, teacher, submit, store, monkeypatch):
    for task in ("t0", "t1"):
        await submit(queue, task)
        await teacher.succeed(task)
        await finished(queue, task)

    def full(*_):
        raise OperationalError("DELETE", None, sqlite3.OperationalError("database or disk is full"))

    await queue.forget("digits", "t1")
    with monkeypatch.context() as patch:
        patch.setattr(store.catalog, "delete_memory", full)
        with pytest.raises(NotDeleted, match="disk is full"):
            await queue.delete("digits")
    await teacher.restores("t0")
    assert (await restored(store)).complete
    await queue.delete("digits")
    with pytest.raises(UnknownMemory):
        await queue.tasks("digits")


async def test_a_memory_of_a_missing_kind_that_a_full_disk_does_not_let_go_is_left_as_it_is(
    queue, spec, store, monkeypatch
):
    def full(_):
        raise OperationalError("DELETE", None, sqlite3.OperationalError("database or disk is full"))

    store.create_memory("later", Manifest("ppca", {"seed": "7"}, spec))
    monkeypatch.setattr(store.catalog, "delete_memory", full)
    with pytest.raises(NotDeleted, match="disk is full"):
        await queue.delete("later")
    assert store.catalog.manifest("later").kind == "ppca"


async def test_what_is_forgotten_on_a_disk_that_lets_nothing_go_is_forgotten_for_everybody_and_said(
    queue, teacher, submit, store, monkeypatch
):
    def broken(_):
        raise OSError(errno.EIO, "Input/output error")

    for task in ("t0", "t1"):
        await submit(queue, task)
        await teacher.succeed(task)
        await finished(queue, task)
    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "delete", broken)
        with pytest.raises(NotErased, match=r"task 't1' of memory 'digits' is gone .*Input/output error.*start"):
            await queue.forget("digits", "t1")
    with pytest.raises(UnknownTask):
        await queue.status("digits", "t1")
    await teacher.restores("t0")
    assert (await restored(store)).complete
    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "delete", broken)
        with pytest.raises(NotErased, match="memory 'digits' is gone for everybody"):
            await queue.delete("digits")
    with pytest.raises(UnknownMemory):
        await queue.tasks("digits")


async def test_a_turn_that_ends_in_a_way_that_nobody_foresaw_is_over_all_the_same(queue, teacher, submit, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Lessons, "_finish", lambda *_: 1 / 0)
        await submit(queue, "t0")
        await submit(queue, "t1")
        await teacher.succeed("t0")
        await teacher.teaches("t1")
    async with asyncio.timeout(10):
        await queue.delete("digits")


async def test_a_commit_that_nobody_can_be_told_of_is_a_commit(store, teacher, submit, witness, monkeypatch):
    def deaf(*_):
        raise RuntimeError("no one listens")

    monkeypatch.setattr(witness, "committed", deaf)
    queue = TaskQueue(store, teacher, witness)
    await submit(queue, "t0")
    await teacher.succeed("t0")
    assert (await finished(queue, "t0")).record.state is TaskState.LEARNED
    await queue.close()


# Ends from outside


async def test_cancelling_wipes_the_data_of_a_queued_and_of_a_learning_task(queue, teacher, submit, admission):
    _, first = await submit(queue, "t0")
    _, second = await submit(queue, "t1")
    await teacher.teaches("t0")
    for task in ("t1", "t0"):
        assert (await queue.cancel("digits", task)).record.state is TaskState.CANCELLED
    assert first.wiped
    assert second.wiped
    assert admission.used == 0
    assert (await queue.cancel("digits", "t0")).record.state is TaskState.CANCELLED


async def test_a_task_that_is_cancelled_while_its_data_is_wiped_is_not_learned(queue, teacher, submit, store):
    _, buffer = await submit(queue, "t0")
    await teacher.teaches("t0")
    wiping, go_on, wipe = threading.Event(), threading.Event(), buffer.wipe

    def slowly():
        wiping.set()
        assert go_on.wait(60)
        wipe()

    buffer.wipe = slowly
    await teacher.succeed("t0")
    await asyncio.to_thread(wiping.wait, 60)
    cancelling = asyncio.create_task(queue.cancel("digits", "t0"))
    await asyncio.sleep(0.05)
    go_on.set()
    assert (await cancelling).record.state is TaskState.CANCELLED
    assert (buffer.wiped, store.catalog.manifest("digits").tasks) == (True, ())


async def test_a_cancellation_waits_for_nothing_else_that_changes(queue, teacher, submit, store, monkeypatch):
    forget, release = store.forget, threading.Event()
    monkeypatch.setattr(store, "forget", lambda *named: release.wait(60) and forget(*named))
    await submit(queue, "old", memory="birds")
    await teacher.succeed("old")
    await finished(queue, "old", "birds")
    for task in ("t0", "t1"):
        await submit(queue, task)
    await teacher.teaches("t0")
    forgetting = asyncio.create_task(queue.forget("birds", "old"))
    await asyncio.sleep(0.05)
    try:
        async with asyncio.timeout(2):
            for task in ("t1", "t0", "t0"):
                assert (await queue.cancel("digits", task)).record.state is TaskState.CANCELLED
            with pytest.raises(TaskFinished, match="LEARNED"):
                await queue.cancel("birds", "old")
    finally:
        release.set()
    await forgetting


async def test_a_task_that_is_stopped_twice_at_once_ends_once_and_may_be_sent_again(queue, teacher, submit, store):
    for task in ("t0", "t1"):
        await submit(queue, task)
    await teacher.teaches("t0")
    twice = [queue.cancel("digits", task) for task in ("t0", "t1") for _ in range(2)]
    *ended, (again, _) = await asyncio.gather(*twice, submit(queue, "t1"))
    assert {status.record.state for status in ended} == {TaskState.CANCELLED}
    assert again.record.state is TaskState.QUEUED
    await teacher.succeed("t1")
    assert (await finished(queue, "t1")).record.state is TaskState.LEARNED
    await submit(queue, "t2", memory="birds")
    await asyncio.gather(queue.delete("birds"), queue.cancel("birds", "t2"))
    assert "birds" not in [record.name for record in store.catalog.memories()]


async def test_a_task_that_is_about_to_start_can_be_cancelled(queue, teacher, submit):
    _, buffer = await submit(queue, "t0")
    assert (await queue.cancel("digits", "t0")).record.state is TaskState.CANCELLED
    assert buffer.wiped
    assert teacher.started == []


async def test_a_learned_task_can_no_longer_be_cancelled(queue, teacher, submit):
    await submit(queue, "t0")
    await teacher.succeed("t0")
    await finished(queue, "t0")
    with pytest.raises(TaskFinished, match="LEARNED"):
        await queue.cancel("digits", "t0")


async def test_a_commit_that_has_begun_is_neither_cancelled_nor_lost_in_a_shutdown(
    queue, teacher, submit, store, monkeypatch
):
    commit, release = store.commit, asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(*arguments):
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return commit(*arguments)

    monkeypatch.setattr(store, "commit", slow)
    await submit(queue, "t0")
    await teacher.succeed("t0")
    await seen(queue, "t0", TaskState.COMMITTING)
    with pytest.raises(TaskFinished, match="COMMITTING"):
        await queue.cancel("digits", "t0")
    closing = asyncio.create_task(queue.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    release.set()
    await closing
    assert store.catalog.task("digits", "t0").state is TaskState.LEARNED


async def test_deleting_a_memory_stops_its_tasks_and_spares_the_others(queue, teacher, submit, witness):
    _, first = await submit(queue, "t0")
    _, second = await submit(queue, "t1")
    await submit(queue, "b0", memory="birds")
    await teacher.teaches("t0")
    watching = asyncio.create_task(finished(queue, "t0"))
    await asyncio.sleep(0)
    await queue.delete("digits")
    assert first.wiped
    assert second.wiped
    assert (await watching).record.state is TaskState.CANCELLED
    with pytest.raises(UnknownMemory):
        await queue.status("digits", "t0")
    with pytest.raises(UnknownMemory):
        await queue.delete("digits")
    assert witness.deletions == ["digits"]
    await teacher.succeed("b0")
    assert (await finished(queue, "b0", "birds")).record.state is TaskState.LEARNED


async def test_a_shutdown_wipes_everything_and_fails_what_was_not_learned(queue, teacher, submit, store, rows):
    buffers = [(await submit(queue, task))[1] for task in ("t0", "t1")]
    await teacher.teaches("t0")
    await queue.close()
    assert all(buffer.wiped for buffer in buffers)
    ends = [(task.state, task.error, task.error_reason) for task in store.catalog.tasks("digits")]
    assert ends == [(TaskState.FAILED, INTERRUPTED, "TASK_INTERRUPTED")] * 2
    late = rows()
    with pytest.raises(ShuttingDown):
        await queue.submit(TaskRecord("digits", "t2", (0, 1), 40, "d0"), late, NOTHING)
    assert late.wiped


async def test_a_refused_client_is_told_to_wait_as_long_as_the_work_takes(queue, teacher, submit, admission):
    await submit(queue, "t0", terms=Terms(seconds=20))
    await submit(queue, "t1", terms=Terms(seconds=30))
    await teacher.teaches("t0")
    teacher.reports["t0"](Progress("generator", 3, 10, 0.3, seconds_left=12.0))
    for _ in range(14):
        admission.reserve().expect(1000)
    with pytest.raises(ServerBusy) as busy:
        admission.reserve()
    assert busy.value.retry_after == pytest.approx(12, abs=1)
    await queue.cancel("digits", "t0")
    admission.reserve().expect(1000)
    with pytest.raises(ServerBusy) as busy:
        admission.reserve()
    assert busy.value.retry_after == pytest.approx(30, abs=1)


# With real workers


async def test_two_tasks_are_learned_by_real_workers(real_queue, submit, store, commits):
    for task in ("t0", "t1"):
        await submit(real_queue, task, terms=Terms(steps=10))
    states = []
    async with asyncio.timeout(120):
        async for status in real_queue.watch("digits", "t1"):
            states.append(status.record.state)
    assert list(dict.fromkeys(states))[:2] == [TaskState.QUEUED, TaskState.LEARNING]
    assert states[-1] is TaskState.LEARNED
    manifest = store.catalog.manifest("digits")
    assert [entry.task for entry in manifest.tasks] == ["t0", "t1"]
    assert set(manifest.digests) <= set(store.blobs)
    assert commits[-1] == ("digits", manifest)


async def test_a_killed_worker_fails_its_task_alone(real_queue, submit, workers):
    _, buffer = await submit(real_queue, "t0", terms=Terms(steps=10_000_000))
    await submit(real_queue, "t1", terms=Terms(steps=10))
    await seen(real_queue, "t0", TaskState.LEARNING)
    while not workers():
        await asyncio.sleep(0.01)
    workers()[0].send_signal(signal.SIGKILL)
    last = await finished(real_queue, "t0")
    assert (last.record.state, last.record.error_reason) == (TaskState.FAILED, "WORKER_DIED")
    assert "SIGKILL" in last.record.error
    assert buffer.wiped
    assert (await finished(real_queue, "t1")).record.state is TaskState.LEARNED


async def is_starting(queue, workers):
    while not workers():
        await asyncio.sleep(0.01)


async def is_stopped(queue, workers):
    await is_starting(queue, workers)
    workers()[0].suspend()


async def reaches(queue, phase):
    async for status in queue.watch("digits", "t0"):
        if status.progress is not None and status.progress.phase == phase:
            return


async def is_learning(queue, workers):
    await reaches(queue, "generator")


async def is_evaluating(queue, workers):
    await reaches(queue, "solver")


@pytest.mark.parametrize(
    ("reached", "steps"),
    [
        (is_starting, 10_000_000),
        (is_stopped, 10_000_000),
        (is_learning, 10_000_000),
        pytest.param(is_evaluating, 300, marks=pytest.mark.slow),
    ],
)
async def test_cancelling_takes_less_than_two_seconds_whatever_the_worker_does(
    reached, steps, real_queue, submit, workers, admission
):
    _, buffer = await submit(real_queue, "t0", terms=Terms(steps=steps))
    _, queued = await submit(real_queue, "t1", terms=Terms(steps=steps))
    async with asyncio.timeout(60):
        await reached(real_queue, workers)
    before = time.monotonic()
    for task in ("t1", "t0"):
        assert (await real_queue.cancel("digits", task)).record.state is TaskState.CANCELLED
    assert time.monotonic() - before < 2.0
    assert buffer.wiped
    assert queued.wiped
    assert admission.used == 0
    assert workers() == []


async def test_what_is_told_of_a_task_is_told_in_the_context_of_its_call_whoever_has_it_started(
    store, teacher, witness, submit
):
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    told = []

    class Listener(Observer):
        def changed(self, status):
            told.append((status.record.task, status.record.state, caller.get()))

    queue = TaskQueue(store, teacher, witness, observer=Observers([Listener()]))
    for task in ("t0", "t1"):
        caller.set(f"caller of {task}")
        await submit(queue, task)
    caller.set("nobody")
    await teacher.succeed("t0")  # which has t1 started
    await teacher.succeed("t1")
    await finished(queue, "t1")
    await queue.close()
    states = (TaskState.LEARNING, TaskState.COMMITTING, TaskState.LEARNED)
    expected = [(task, state, f"caller of {task}") for task in ("t0", "t1") for state in states]
    assert [each for each in told if each[1] is not TaskState.QUEUED] == expected


async def test_an_observer_that_fails_harms_neither_the_task_nor_the_others(store, teacher, witness, submit):
    told = []

    class Failing(Observer):
        def changed(self, status):
            raise OSError("the disk is full")

    class Listener(Observer):
        def changed(self, status):
            told.append(status.record.state)

    queue = TaskQueue(store, teacher, witness, observer=Observers([Failing(), Listener()]))
    await submit(queue, "t0")
    await teacher.succeed("t0")
    await finished(queue, "t0")
    await queue.close()
    assert told[-1] is TaskState.LEARNED
