import asyncio

import pytest
from structlog.testing import capture_logs

from dgm_core.errors import CannotForget, QualityTooLow
from dgm_core.memory import Progress
from memory_server.errors import (
    NoSolver,
    ShuttingDown,
    TaskUnfinished,
    UnknownMemory,
    UnknownTask,
)
from memory_server.learning.queue import TaskQueue
from memory_server.store.records import TaskState
from tests.memory_server.learning.fakes import finished, restored


@pytest.fixture
def teach(queue, teacher, submit):
    """Has tasks learned, one after the other."""

    async def teach(*tasks, memory="digits", **reuses):
        for task in tasks:
            await submit(queue, task, memory=memory)
            await teacher.succeed(task, reuses.get(task, ()))
            await finished(queue, task, memory)

    return teach


async def test_a_forgotten_task_is_gone_everyone_is_told_and_the_solver_is_trained_anew(
    queue, teacher, teach, store, witness
):
    await teach("t0", "t1")
    await queue.forget("digits", "t1")
    manifest = store.catalog.manifest("digits")
    assert witness.losses == [("digits", manifest)]
    assert ([entry.task for entry in manifest.tasks], manifest.complete) == (["t0"], False)
    assert set(store.blobs.values()) == {b"t0"}
    with pytest.raises(UnknownTask):
        await queue.status("digits", "t1")
    await teacher.restores("t0")
    after = await restored(store)
    assert after.revision == manifest.revision + 1
    assert set(store.blobs.values()) == {b"t0", b"solver of t0"}
    async with asyncio.timeout(10):
        while witness.commits[-1] != ("digits", after):
            await asyncio.sleep(0.001)


async def test_forgetting_all_there_is_leaves_nothing_to_train(queue, teacher, teach, store):
    await teach("t0")
    await queue.forget("digits", "t0")
    assert store.catalog.manifest("digits").tasks == ()
    assert len(store.blobs) == 0
    await teach("t0")
    assert teacher.started == ["t0", "t0"]


async def test_tasks_wait_for_the_solver_and_say_so(queue, teacher, teach, submit, store):
    await teach("t0", "t1")
    await queue.forget("digits", "t1")
    await submit(queue, "t2")
    await submit(queue, "b0", memory="birds")
    waits = "queued behind the retraining of the solver of memory digits"
    assert (await queue.status("digits", "t2")).waiting_for == waits
    await teacher.restores("t0")
    await teacher.succeed("t2")
    await finished(queue, "t2")
    assert [entry.task for entry in store.catalog.manifest("digits").tasks] == ["t0", "t2"]


async def test_a_task_that_waits_when_another_is_forgotten_learns_without_it(queue, teacher, teach, submit, store):
    await teach("t0", "t1")
    await submit(queue, "b0", memory="birds")
    await submit(queue, "t2")
    await teacher.teaches("b0")
    await queue.forget("digits", "t1")
    assert "retraining of the solver of memory digits" in (await queue.status("digits", "t2")).waiting_for
    await teacher.succeed("b0")
    await teacher.restores("t0")
    await teacher.succeed("t2")
    await finished(queue, "t2")
    assert [entry.task for entry in store.catalog.manifest("digits").tasks] == ["t0", "t2"]


async def test_nothing_starts_to_learn_on_a_memory_that_is_just_forgetting(
    queue, teacher, teach, submit, store, monkeypatch
):
    await teach("t0", "t1")
    await submit(queue, "b0", memory="birds")
    await submit(queue, "t2")
    forget, entered, release = store.forget, asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(*arguments):
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return forget(*arguments)

    monkeypatch.setattr(store, "forget", slow)
    forgetting = asyncio.create_task(queue.forget("digits", "t1"))
    await entered.wait()
    await teacher.succeed("b0")
    while store.catalog.task("birds", "b0").state is not TaskState.LEARNED:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    assert teacher.started[-1] == "b0"
    release.set()
    await forgetting
    await teacher.restores("t0")
    await teacher.succeed("t2")
    await finished(queue, "t2")
    assert [entry.task for entry in store.catalog.manifest("digits").tasks] == ["t0", "t2"]


async def test_a_task_that_is_queued_or_learning_is_not_forgotten(queue, teacher, teach, submit):
    await submit(queue, "t0")
    await submit(queue, "t1")
    await teacher.teaches("t0")
    with pytest.raises(TaskUnfinished, match="LEARNING; cancel it"):
        await queue.forget("digits", "t0")
    with pytest.raises(TaskUnfinished, match="QUEUED"):
        await queue.forget("digits", "t1")


async def test_a_task_on_which_another_is_learning_is_not_forgotten_before_that_ends(
    queue, teacher, teach, submit, store
):
    await teach("t0")
    await submit(queue, "t1")
    await teacher.teaches("t1")
    with pytest.raises(TaskUnfinished, match="task t1 of memory digits is being learned on top of task t0"):
        await queue.forget("digits", "t0")
    await queue.cancel("digits", "t1")
    await queue.forget("digits", "t0")
    assert store.catalog.manifest("digits").tasks == ()


async def test_the_record_of_a_task_that_failed_can_be_forgotten_while_others_learn(
    queue, teacher, teach, submit, store, witness
):
    await teach("t0")
    await submit(queue, "t1")
    await teacher.fail("t1", QualityTooLow("0.2 is below 0.5"))
    await finished(queue, "t1")
    await submit(queue, "t2")
    await teacher.teaches("t2")
    before = store.catalog.manifest("digits")
    await queue.forget("digits", "t1")
    assert store.catalog.manifest("digits") == before
    assert [status.record.task for status in await queue.tasks("digits")] == ["t0", "t2"]
    await teacher.succeed("t2")
    assert (await finished(queue, "t2")).record.state is TaskState.LEARNED


async def test_a_task_that_later_ones_reuse_is_refused_and_nothing_is_stopped(queue, teacher, teach, store):
    await teach("t0", "t1", "t2", t1=("t0",))
    await queue.forget("digits", "t2")
    await teacher.teaches("solver of t0 t1")
    with pytest.raises(CannotForget, match="t1"):
        await queue.forget("digits", "t0")
    await teacher.restores("t0", "t1")
    await restored(store)
    assert teacher.started.count("solver of t0 t1") == 1


async def test_what_is_not_there_cannot_be_forgotten(queue, teach):
    with pytest.raises(UnknownMemory):
        await queue.forget("digits", "t0")
    await teach("t0")
    with pytest.raises(UnknownTask, match="t0"):
        await queue.forget("digits", "t9")


async def test_forgetting_more_while_the_solver_is_trained_anew_begins_that_again(queue, teacher, teach, store):
    await teach("t0", "t1", "t2")
    await queue.forget("digits", "t2")
    await teacher.teaches("solver of t0 t1")
    await queue.forget("digits", "t1")
    assert teacher.lessons["solver of t0 t1"].cancelled()
    await teacher.restores("t0")
    await restored(store)
    assert set(store.blobs.values()) == {b"t0", b"solver of t0"}


async def test_a_task_is_forgotten_even_if_the_client_goes_away_meanwhile(queue, teacher, teach, store, witness):
    await teach("t0", "t1")
    going = asyncio.create_task(queue.forget("digits", "t1"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    await teacher.restores("t0")
    await restored(store)
    assert len(witness.losses) == 1


async def test_a_solver_that_cannot_be_trained_leaves_the_memory_to_the_next_task(queue, teacher, teach, store):
    await teach("t0", "t1")
    await queue.forget("digits", "t1")
    assert queue.solver_due("digits") > 0
    with capture_logs() as lines:
        await teacher.fail("solver of t0", RuntimeError("boom"))
        await teach("b0", memory="birds")
    (line,) = (line for line in lines if line["log_level"] == "error")
    assert (line["memory"], line["error"]) == ("digits", "RuntimeError")
    assert "fakes.py" in line["frames"][-1] and "boom" not in str(lines)
    assert not store.catalog.manifest("digits").complete
    with pytest.raises(NoSolver, match="could not be trained anew"):
        queue.solver_due("digits")
    await teach("t2")
    assert store.catalog.manifest("digits").complete
    assert queue.solver_due("digits") > 0


async def test_how_long_the_solver_takes_is_known_from_its_progress(queue, teacher, teach, submit):
    await teach("t0", "t1")
    await queue.forget("digits", "t1")
    await teacher.teaches("solver of t0")
    teacher.reports["solver of t0"](Progress("solver", 3, 10, 0.3, seconds_left=12.0))
    assert queue.solver_due("digits") == 12.0


async def test_how_long_the_solver_takes_includes_what_it_waits_for(queue, teacher, teach, submit):
    await teach("t0", "t1")
    await submit(queue, "b0", memory="birds")
    await teacher.teaches("b0")
    teacher.reports["b0"](Progress("generator", 3, 10, 0.3, seconds_left=100.0))
    await queue.forget("digits", "t1")
    assert 100 < queue.solver_due("digits") < 200


async def test_deleting_a_memory_stops_the_retraining_of_its_solver(queue, teacher, teach, submit):
    await teach("t0", "t1")
    await queue.forget("digits", "t1")
    await teacher.teaches("solver of t0")
    await submit(queue, "t2")
    await queue.delete("digits")
    assert teacher.lessons["solver of t0"].cancelled()
    await teach("b0", memory="birds")


async def test_a_retraining_that_a_shutdown_stopped_is_taken_up_by_the_next_server(
    queue, teacher, teach, store, witness
):
    await teach("t0", "t1")
    await queue.forget("digits", "t1")
    await teacher.teaches("solver of t0")
    await queue.close()
    assert teacher.lessons.pop("solver of t0").cancelled()
    assert not store.catalog.manifest("digits").complete
    with pytest.raises(ShuttingDown):
        await queue.forget("digits", "t0")
    following = TaskQueue(store, teacher, witness)
    await following.resume()
    await teacher.restores("t0")
    await restored(store)
    await following.close()
