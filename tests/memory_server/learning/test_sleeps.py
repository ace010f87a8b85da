import asyncio
from contextlib import aclosing, suppress

import pytest

from dgm_core.errors import CannotForget, CannotSleep, TrainingDiverged
from dgm_core.memories import KINDS, new_manifest
from dgm_core.memory import Progress
from memory_server.errors import ShuttingDown, SleepFailed, UnknownMemory, UnknownTask
from memory_server.learning.idle import sleep_when_idle
from memory_server.learning.messages import Renewal
from memory_server.learning.observer import Observer
from memory_server.learning.queue import TaskQueue
from memory_server.learning.status import SleepState
from memory_server.store.records import TaskState
from tests.memory_server.learning.fakes import Drowsy, finished


@pytest.fixture
def manifest(spec, monkeypatch):
    monkeypatch.setitem(KINDS, Drowsy.kind, Drowsy)
    return new_manifest(Drowsy.kind, {"width": "4", "noise": "8"}, spec, seed=7)


@pytest.fixture
def teach(queue, teacher, submit):
    """Has tasks learned, one after the other."""

    async def teach(*tasks):
        for task in tasks:
            await submit(queue, task)
            await teacher.succeed(task)
            await finished(queue, task)

    return teach


@pytest.fixture
def slept(store):
    """Waits until so many tasks are consolidated, and gives the newest revision."""

    async def slept(count, memory="digits"):
        async with asyncio.timeout(10):
            while sum(entry.consolidated for entry in store.catalog.manifest(memory).tasks) != count:
                await asyncio.sleep(0.001)
        return store.catalog.manifest(memory)

    return slept


async def followed(queue, memory="digits"):
    async with asyncio.timeout(10):
        return [status async for status in queue.sleep(memory)]


async def asked(queue, memory="digits"):
    """Has asked for sleep once it returns; gives what is heard of it, as it comes, and the task that ends with it."""
    heard = []

    async def follow():
        async with asyncio.timeout(10):
            async for status in queue.sleep(memory):
                heard.append(status)

    following = asyncio.create_task(follow())
    await until(lambda: heard)
    return heard, following


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def gone_wrong(queue, memory="digits"):
    with pytest.raises(Exception) as caught:
        await followed(queue, memory)
    return caught.value


# Of itself


async def test_a_drowsy_memory_sleeps_before_its_next_task_which_says_so(queue, teacher, teach, submit, slept, store):
    await teach("t0", "t1")
    await submit(queue, "t2")
    await teacher.teaches("sleep of t0 t1")
    assert (await queue.status("digits", "t2")).waiting_for == "queued behind the sleep of memory digits"
    before = store.catalog.manifest("digits")
    await teacher.sleeps("t0", "t1")
    after = await slept(2)
    assert after.revision == before.revision + 1
    await teacher.teaches("t2")
    assert set(store.blobs.values()) == {b"sleep of t0 t1", b"solver after sleep of t0 t1"}
    await teacher.succeed("t2")
    await finished(queue, "t2")
    assert [entry.consolidated for entry in store.catalog.manifest("digits").tasks] == [True, True, False]


async def test_everyone_is_told_that_what_was_before_is_gone(queue, teacher, teach, slept, witness):
    await teach("t0", "t1")
    await teacher.sleeps("t0", "t1")
    manifest = await slept(2)
    await until(lambda: witness.losses == [("digits", manifest)])


async def test_a_memory_that_was_left_drowsy_sleeps_when_the_next_server_starts(
    queue, teacher, teach, store, witness, slept
):
    await teach("t0", "t1")
    await teacher.teaches("sleep of t0 t1")
    await queue.close()
    assert not any(entry.consolidated for entry in store.catalog.manifest("digits").tasks)
    following = TaskQueue(store, teacher, witness)
    teacher.lessons.clear()
    await following.resume()
    await teacher.sleeps("t0", "t1")
    await slept(2)
    await following.close()


async def test_a_sleep_that_fails_is_in_no_tasks_way_and_is_tried_again_after_the_next(
    queue, teacher, teach, submit, slept
):
    await teach("t0", "t1")
    await submit(queue, "t2")
    await teacher.fail("sleep of t0 t1", TrainingDiverged("a loss became NaN"))
    await teacher.succeed("t2")
    assert (await finished(queue, "t2")).record.state is TaskState.LEARNED
    await teacher.sleeps("t0", "t1", "t2")
    await slept(3)


# When asked


async def test_who_asks_for_sleep_hears_how_far_it_is_and_when_it_is_over(queue, teacher, teach, submit, slept):
    await teach("t0")
    await submit(queue, "b0", memory="birds")
    await teacher.teaches("b0")
    heard, following = await asked(queue)
    await teacher.succeed("b0")
    await teacher.teaches("sleep of t0")
    teacher.reports["sleep of t0"](Progress("generator", 3, 10, 0.3))
    await until(lambda: heard[-1].progress is not None and heard[-1].progress.step == 3)
    await teacher.sleeps("t0")
    await following
    assert (heard[0].state, heard[0].waiting_for) == (SleepState.QUEUED, "queued behind task b0 of memory birds")
    assert (heard[0].position, heard[-1].state) == (1, SleepState.ENDED)
    await slept(1)


async def test_it_comes_behind_the_tasks_that_wait_unless_they_make_it_due_before(queue, teacher, teach, submit):
    await teach("t0")
    await submit(queue, "t1")
    await submit(queue, "t2")
    heard, following = await asked(queue)
    await teacher.succeed("t1")
    await teacher.sleeps("t0", "t1")
    await following
    assert heard[-1].state is SleepState.ENDED
    await teacher.succeed("t2")
    await finished(queue, "t2")
    assert teacher.started == ["t0", "t1", "sleep of t0 t1", "t2"]


async def test_two_who_ask_have_one_sleep(queue, teacher, teach):
    await teach("t0")
    (one, _), (other, _) = both = [await asked(queue) for _ in range(2)]
    await teacher.sleeps("t0")
    await asyncio.gather(*(following for _, following in both))
    assert one[-1].state is other[-1].state is SleepState.ENDED
    assert teacher.started == ["t0", "sleep of t0"]


async def test_it_is_alive_while_it_goes_on_and_goes_on_without_the_one_who_asked(queue, teacher, teach, slept):
    await teach("t0")
    async with asyncio.timeout(10), aclosing(queue.sleep("digits")) as statuses:
        seen = [await anext(statuses) for _ in range(4)]
    assert {status.state for status in seen[1:]} == {SleepState.SLEEPING}
    await teacher.sleeps("t0")
    await slept(1)


async def test_nothing_to_consolidate_is_said_at_once(queue, teacher, teach):
    await teach("t0", "t1")
    _, following = await asked(queue)
    await teacher.sleeps("t0", "t1")
    await following
    assert isinstance(await gone_wrong(queue), CannotSleep)
    assert isinstance(await gone_wrong(queue, "nothing"), UnknownMemory)


async def test_a_kind_that_does_not_sleep_says_which_do(queue, manifest, store, spec):
    assert manifest.kind == Drowsy.kind
    store.create_memory("plain", new_manifest("dgmw", {"width": "4", "noise": "8"}, spec, seed=7), {})
    error = await gone_wrong(queue, "plain")
    assert isinstance(error, CannotSleep)
    assert "'plain', of kind dgmw, has nothing to consolidate: " in str(error) and "drowsy" in str(error)


async def test_who_asked_hears_that_it_failed_and_may_ask_again(queue, teacher, teach):
    await teach("t0")
    failing = asyncio.create_task(gone_wrong(queue))
    await teacher.fail("sleep of t0", TrainingDiverged("a loss became NaN"))
    error = await failing
    assert isinstance(error, SleepFailed) and "could not sleep (TrainingDiverged; the server's log" in str(error)
    heard = asyncio.create_task(followed(queue))
    await teacher.sleeps("t0")
    assert (await heard)[-1].state is SleepState.ENDED


# Who watches a task


async def watched(queue, task, until_consolidated=True):
    """What is seen of a task, as it comes, once there is something, and the task that ends with it."""
    seen = []

    async def follow():
        async with asyncio.timeout(10):
            async for status in queue.watch("digits", task, until_consolidated):
                seen.append(status)

    following = asyncio.create_task(follow())
    await until(lambda: seen)
    return seen, following


async def test_a_watch_goes_on_until_sleep_has_consolidated_the_task(queue, teacher, teach, submit):
    await submit(queue, "t0")
    seen, following = await watched(queue, "t0")
    await teacher.succeed("t0")
    await until(lambda: seen[-1].record.state is TaskState.LEARNED)
    await asyncio.sleep(0.12)  # two heartbeats
    assert not (following.done() or seen[-1].record.consolidated)
    later, following_later = await watched(queue, "t0")
    await teach("t1")
    await teacher.sleeps("t0", "t1")
    await asyncio.gather(following, following_later)
    assert seen[-1].record.consolidated and later[-1].record.consolidated
    (status,), _ = await watched(queue, "t0")
    assert status.record.consolidated
    assert [status.record.consolidated for status in await queue.tasks("digits")] == [True, True]


async def test_without_being_asked_to_a_watch_ends_with_the_task(queue, teacher, teach):
    await teach("t0")
    seen, following = await watched(queue, "t0", until_consolidated=False)
    await following
    assert [status.record.consolidated for status in seen] == [False]


async def test_a_watch_for_what_will_never_be_is_refused(queue, teach, monkeypatch):
    monkeypatch.setattr(Drowsy, "sleeps", False)
    await teach("t0")
    with pytest.raises(CannotSleep, match="no task 't0' to consolidate"):
        _ = [status async for status in queue.watch("digits", "t0", until_consolidated=True)]


@pytest.mark.parametrize("ends", ["forget", "delete", "close"])
async def test_a_watch_for_consolidation_ends_with_the_task_the_memory_or_the_server(queue, teacher, teach, ends):
    await teach("t0")
    _, following = await watched(queue, "t0")
    change = {"forget": lambda: queue.forget("digits", "t0"), "delete": lambda: queue.delete("digits")}
    await change.get(ends, queue.close)()
    with pytest.raises({"forget": UnknownTask, "delete": UnknownMemory, "close": ShuttingDown}[ends]):
        await following


# What comes in between


async def test_a_task_that_is_forgotten_meanwhile_is_not_consolidated_and_sleep_begins_anew(
    queue, teacher, teach, slept
):
    await teach("t0", "t1")
    heard = asyncio.create_task(followed(queue))
    await teacher.teaches("sleep of t0 t1")
    await queue.forget("digits", "t0")
    await teacher.restores("t1")
    await teacher.sleeps("t1")
    statuses = await heard
    assert [entry.task for entry in (await slept(1)).tasks] == ["t1"]
    assert SleepState.QUEUED in {status.state for status in statuses[1:]}
    assert statuses[-1].state is SleepState.ENDED


async def test_what_is_consolidated_cannot_be_forgotten_and_the_refusal_stops_nothing(queue, teacher, teach, slept):
    await teach("t0", "t1")
    await teacher.sleeps("t0", "t1")
    await slept(2)
    await teach("t2")
    heard = asyncio.create_task(followed(queue))
    await teacher.teaches("sleep of t0 t1 t2")
    with pytest.raises(CannotForget, match="task t0 cannot be forgotten: it is consolidated"):
        await queue.forget("digits", "t0")
    await teacher.sleeps("t0", "t1", "t2")
    assert (await heard)[-1].state is SleepState.ENDED
    assert teacher.started.count("sleep of t0 t1 t2") == 1


@pytest.mark.parametrize("running", [True, False])
async def test_deleting_a_memory_ends_its_sleep(queue, teacher, teach, submit, running):
    await teach("t0")
    if not running:
        await submit(queue, "b0", memory="birds")
        await teacher.teaches("b0")
    _, following = await asked(queue)
    if running:
        await teacher.teaches("sleep of t0")
    await queue.delete("digits")
    with pytest.raises(UnknownMemory):
        await following


async def test_at_the_end_of_the_server_those_who_wait_are_told(queue, teacher, teach, store):
    await teach("t0")
    _, following = await asked(queue)
    await teacher.teaches("sleep of t0")
    await queue.close()
    with pytest.raises(ShuttingDown):
        await following
    assert isinstance(await gone_wrong(queue), ShuttingDown)
    assert not store.catalog.manifest("digits").tasks[0].consolidated


# While there is nothing to learn


async def test_memories_sleep_when_there_is_nothing_to_learn_and_not_before(queue, teacher, teach, submit, slept):
    await teach("t0")
    await submit(queue, "b0", memory="birds")
    await teacher.teaches("b0")
    idling = asyncio.create_task(sleep_when_idle(queue, 0.02))
    await asyncio.sleep(0.1)
    assert teacher.started == ["t0", "b0"]
    await teacher.succeed("b0")
    await teacher.sleeps("b0")
    await teacher.sleeps("t0")
    await slept(1, "digits")
    await slept(1, "birds")
    idling.cancel()
    with suppress(asyncio.CancelledError):
        await idling


async def test_a_memory_that_failed_to_sleep_is_left_alone_until_it_has_learned_more(queue, teacher, teach):
    await teach("t0")
    await queue.use_idleness()
    await teacher.fail("sleep of t0", TrainingDiverged("a loss became NaN"))
    for _ in range(10):
        await queue.use_idleness()
        await asyncio.sleep(0.005)
    assert teacher.started == ["t0", "sleep of t0"]


# Who watches


class Notes(Observer):
    def __init__(self):
        self.taken = []

    def renewing(self, how, memory, progress):
        self.taken.append((how, memory, progress))

    def renewed(self, how, memory, ended, consolidated):
        self.taken.append((how, memory, ended, consolidated))


async def test_observers_hear_of_sleep_and_of_what_it_consolidated(store, teacher, witness, submit):
    notes = Notes()
    queue = TaskQueue(store, teacher, witness, observer=notes)
    for task in ("t0", "t1"):
        await submit(queue, task)
        await teacher.succeed(task)
        await finished(queue, task)
    await teacher.sleeps("t0", "t1")
    await until(lambda: len(notes.taken) == 2)
    await queue.close()
    assert notes.taken == [(Renewal.SLEEP, "digits", None), (Renewal.SLEEP, "digits", TaskState.LEARNED, 2)]
