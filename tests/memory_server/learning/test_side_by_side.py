"""Tasks of one memory that learn at one time; the executor is conducted by the test."""

import asyncio
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgm_core.errors import QualityTooLow
from dgm_core.manifest import DataSpec, Manifest
from dgm_core.memory import Progress
from memory_server.errors import TaskExists, TaskUnfinished, UnknownMemory
from memory_server.learning.admission import IngestBudget
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.queue import TaskQueue
from memory_server.store.catalog import INTERRUPTED
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskRecord, TaskState
from tests.memory_server.learning.fakes import NOTHING, Teacher, Witness, finished, learned, restored, seen

SPEC = DataSpec((1, 8, 8), "uint8")
SIDE_BY_SIDE = Manifest("gan_memory", {"seed": "7"}, SPEC)
ONE_BY_ONE = Manifest("dgmw", {"seed": "7"}, SPEC)


@pytest.fixture
def manifest():
    return SIDE_BY_SIDE


@pytest.fixture
async def queue(store, teacher, witness):
    queue = TaskQueue(store, teacher, witness, parallel=2, heartbeat=0.05)
    yield queue
    await queue.close()


@pytest.fixture
def learn_two(queue, teacher, submit):
    """Has t0 and t1 learn at one time."""

    async def learn_two():
        buffers = [(await submit(queue, task))[1] for task in ("t0", "t1")]
        await teacher.teaches("t1")
        return buffers

    return learn_two


async def learns(queue, teacher, *tasks):
    """Has tasks end well, one after the other."""
    for task in tasks:
        await teacher.succeed(task)
        assert (await finished(queue, task)).record.state is TaskState.LEARNED


def solvers(teacher):
    """The retrainings that were begun."""
    return [name for name in teacher.started if name.startswith("solver of")]


def names(manifest):
    return [entry.task for entry in manifest.tasks]


# Learning


async def test_tasks_of_one_memory_learn_at_one_time_and_a_third_says_what_it_waits_for(
    queue, teacher, submit, learn_two
):
    await learn_two()
    for task in ("t2", "t3"):
        await submit(queue, task)
    assert sorted(teacher.started) == ["t0", "t1"]
    waiting = [(await queue.status("digits", task)).waiting_for for task in ("t2", "t3")]
    assert waiting == ["queued behind task t0 of memory digits", "queued behind task t1 of memory digits"]
    await teacher.succeed("t1")
    await teacher.teaches("t2")
    assert (await queue.status("digits", "t3")).waiting_for == "queued behind task t0 of memory digits"


async def test_tasks_are_committed_in_the_order_of_their_ends_each_in_a_revision_of_its_own(
    queue, teacher, store, learn_two, commits
):
    buffers = await learn_two()
    await learns(queue, teacher, "t1", "t0")
    assert [(task.task, task.revision) for task in store.catalog.tasks("digits")] == [("t0", 2), ("t1", 1)]
    assert [names(manifest) for _, manifest in commits[:2]] == [["t1"], ["t1", "t0"]]
    assert all(buffer.wiped for buffer in buffers)


async def test_a_memory_with_many_tasks_lets_another_have_its_turn(queue, teacher, submit):
    for task in ("a0", "a1", "a2", "a3"):
        await submit(queue, task, memory="a")
    await submit(queue, "b0", memory="b")
    await teacher.teaches("a1")
    for ends, begins in (("a0", "a2"), ("a1", "b0"), ("a2", "a3")):  # one at a time: two that begin at once overtake
        await teacher.succeed(ends)
        await teacher.teaches(begins)
    for task in ("a3", "b0"):
        await teacher.succeed(task)
    await finished(queue, "b0", "b")
    assert sorted(teacher.started[:2]) == ["a0", "a1"]
    assert teacher.started[2:5] == ["a2", "b0", "a3"]


async def test_the_same_task_sent_again_is_not_learned_twice_at_one_time(queue, teacher, submit):
    await asyncio.gather(submit(queue, "t0"), submit(queue, "t0"))
    await teacher.teaches("t0")
    _, again = await submit(queue, "t0")
    assert again.wiped
    with pytest.raises(TaskExists):
        await submit(queue, "t0", digest="other")
    await submit(queue, "t1")
    await teacher.teaches("t1")
    assert sorted(teacher.started) == ["t0", "t1"]


async def test_one_that_fails_leaves_the_other_as_if_it_had_learned_alone(queue, teacher, store, learn_two):
    first, _ = await learn_two()
    await teacher.fail("t0", QualityTooLow("0.2 is below 0.5"))
    assert (await finished(queue, "t0")).record.error_reason == "QUALITY_TOO_LOW"
    assert first.wiped
    await learns(queue, teacher, "t1")
    manifest = store.catalog.manifest("digits")
    assert (names(manifest), manifest.complete) == (["t1"], True)
    assert set(store.blobs.values()) == {b"t1", b"solver t1"}


async def test_one_that_is_cancelled_makes_room_and_spares_the_other(queue, teacher, submit, learn_two):
    first, second = await learn_two()
    await submit(queue, "t2")
    assert (await queue.cancel("digits", "t0")).record.state is TaskState.CANCELLED
    await teacher.teaches("t2")
    assert (first.wiped, second.wiped) == (True, False)
    await learns(queue, teacher, "t1")


# The solver, which none of them can train for all


async def test_the_solver_is_trained_anew_once_all_have_ended(queue, teacher, submit, store, learn_two):
    await learn_two()
    await submit(queue, "t2")
    await submit(queue, "t3")
    await learns(queue, teacher, "t0")
    assert store.catalog.manifest("digits").complete
    await teacher.teaches("t2")
    await learns(queue, teacher, "t1", "t3", "t2")
    assert not store.catalog.manifest("digits").complete
    await teacher.restores("t0", "t1", "t3", "t2")
    manifest = await restored(store)
    assert solvers(teacher) == ["solver of t0 t1 t3 t2"]
    assert manifest.revision == 5
    kept = {store.blobs[digest] for digest in manifest.digests}
    assert kept == {b"t0", b"t1", b"t2", b"t3", b"solver of t0 t1 t3 t2"}
    assert not {b"solver t1", b"solver t2"} & set(store.blobs.values()), "they were overtaken"


async def test_who_asks_for_the_solver_is_told_to_wait_for_what_learns_before_it(queue, teacher, submit, learn_two):
    await learn_two()
    await submit(queue, "t2")
    await learns(queue, teacher, "t0", "t1")
    await teacher.teaches("t2")
    teacher.reports["t2"](Progress("generator", 3, 10, 0.3, seconds_left=100.0))
    assert 100 < queue.solver_due("digits") < 200


async def test_tasks_that_come_later_wait_for_the_solver_and_say_so(queue, teacher, submit, store, learn_two):
    await learn_two()
    await submit(queue, "t2")
    await learns(queue, teacher, "t0")
    await teacher.teaches("t2")
    await learns(queue, teacher, "t1")
    await submit(queue, "t3")
    waits = "queued behind the retraining of the solver of memory digits"
    assert (await queue.status("digits", "t3")).waiting_for == waits
    await learns(queue, teacher, "t2")
    await teacher.restores("t0", "t1", "t2")
    await learns(queue, teacher, "t3")
    assert (await restored(store)).shared.keys() == {"solver"}
    assert solvers(teacher) == ["solver of t0 t1 t2"]


async def test_no_solver_is_trained_if_the_last_task_brought_one_that_knows_all(
    queue, teacher, submit, store, learn_two
):
    await learn_two()
    for task in ("t2", "t3"):
        await submit(queue, task)
    await learns(queue, teacher, "t0", "t1")
    await queue.cancel("digits", "t2")
    await learns(queue, teacher, "t3")
    assert store.catalog.manifest("digits").complete
    await submit(queue, "t4")
    await teacher.teaches("t4")
    assert solvers(teacher) == []


async def test_a_solver_of_a_memory_that_has_moved_on_is_not_kept_and_trained_again(queue, teacher, store, learn_two):
    await learn_two()
    await learns(queue, teacher, "t0", "t1")
    await teacher.teaches("solver of t0 t1")
    store.admit(TaskRecord("digits", "t2", (0, 1), 40, "d0"))
    store.commit("digits", "t2", learned("t2", revision=0))
    await teacher.restores("t0", "t1")
    await teacher.restores("t0", "t1", "t2")
    await restored(store)
    assert set(store.blobs.values()) == {b"t0", b"t1", b"t2", b"solver of t0 t1 t2"}


# Ends from outside


async def test_a_task_is_forgotten_once_none_of_its_memory_learns(queue, teacher, submit, store, learn_two):
    await learn_two()
    await submit(queue, "t2")
    await learns(queue, teacher, "t0")
    await teacher.teaches("t2")
    for last in ("t1", "t2"):
        await teacher.teaches(last)
        with pytest.raises(TaskUnfinished, match=f"task {last} of memory digits is being learned on top of task t0"):
            await queue.forget("digits", "t0")
        await learns(queue, teacher, last)
    await teacher.teaches("solver of t0 t1 t2")
    await queue.forget("digits", "t0")
    assert teacher.lessons["solver of t0 t1 t2"].cancelled()
    await teacher.restores("t1", "t2")
    assert names(await restored(store)) == ["t1", "t2"]
    assert set(store.blobs.values()) == {b"t1", b"t2", b"solver of t1 t2"}


async def test_deleting_a_memory_stops_all_that_learn_and_starts_nothing_more(
    queue, teacher, submit, store, learn_two, admission
):
    await learn_two()
    await submit(queue, "t2")
    await learns(queue, teacher, "t0", "t1")
    await teacher.teaches("t2")
    for task in ("t3", "t4"):  # behind the solver
        await submit(queue, task)
    await queue.delete("digits")
    assert sorted(teacher.started) == ["t0", "t1", "t2"]
    assert admission.used == 0
    assert len(store.blobs) == 0
    with pytest.raises(UnknownMemory):
        await queue.tasks("digits")
    await submit(queue, "b0", memory="birds")
    await teacher.teaches("b0")


async def test_a_shutdown_ends_all_that_learn_finishes_a_commit_and_leaves_the_solver_to_the_next_server(
    queue, teacher, submit, store, learn_two, witness, monkeypatch
):
    commit, release = store.commit, asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(*arguments):
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return commit(*arguments)

    await learn_two()
    await submit(queue, "t2")
    await learns(queue, teacher, "t0")
    await teacher.teaches("t2")
    monkeypatch.setattr(store, "commit", slow)
    await teacher.succeed("t1")
    await seen(queue, "t1", TaskState.COMMITTING)
    closing = asyncio.create_task(queue.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    release.set()
    await closing
    states = [(task.state, task.error) for task in store.catalog.tasks("digits")]
    assert states == [(TaskState.LEARNED, ""), (TaskState.LEARNED, ""), (TaskState.FAILED, INTERRUPTED)]
    assert solvers(teacher) == []
    following = TaskQueue(store, teacher, witness)
    await following.resume()
    await teacher.restores("t0", "t1")
    assert names(await restored(store)) == ["t0", "t1"]
    await following.close()


async def test_a_retraining_that_has_just_begun_does_not_outlast_the_server(
    queue, teacher, store, learn_two, monkeypatch
):
    read, entered, release = store.catalog.manifest, asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow_if_it_lacks_a_solver(*arguments):
        found = read(*arguments)
        if not found.complete:
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return found

    monkeypatch.setattr(store.catalog, "manifest", slow_if_it_lacks_a_solver)
    await learn_two()
    await learns(queue, teacher, "t0", "t1")
    await entered.wait()
    closing = asyncio.create_task(queue.close())
    await asyncio.sleep(0.01)
    release.set()
    async with asyncio.timeout(10):
        await closing
    assert solvers(teacher) == []


# Whatever comes in whatever order

lessons = st.lists(st.sampled_from(["digits", "digits", "birds"]), min_size=1, max_size=8)
outcomes = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([True, True, False])), min_size=8, max_size=16)


class Watchful(Teacher):
    """Notes what learned at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.running: set[str] = set()
        self.together: list[set[str]] = []

    async def learn(self, job, data, report):
        with self.noted(job.task):
            return await super().learn(job, data, report)

    async def renew(self, how, manifest, report):
        with self.noted(" ".join(["solver of", *names(manifest)])):
            return await super().renew(how, manifest, report)

    @contextmanager
    def noted(self, name):
        self.running.add(name)
        self.together.append(set(self.running))
        try:
            yield
        finally:
            self.running.discard(name)

    async def end(self, name, well):
        kind, _, tasks = name.partition("solver of ")
        if tasks:
            await self.restores(*tasks.split())
        elif well:
            await self.succeed(kind)
        else:
            await self.fail(kind, QualityTooLow("0.2 is below 0.5"))


@settings(max_examples=25, deadline=None)
@given(memories=lessons, outcomes=outcomes, parallel=st.integers(1, 3))
def test_whatever_the_order_all_is_committed_once_and_the_solver_knows_it(memories, outcomes, parallel):
    """Tasks t of digits learn side by side, those of birds do not; no more than `parallel` at one time."""
    with tempfile.TemporaryDirectory() as home, DataDir(Path(home) / "data") as store:
        teacher = Watchful()
        asyncio.run(conducted(store, teacher, memories, outcomes, parallel))
        for together in teacher.together:
            of_digits = [name for name in together if "digits" in name]
            assert len(together) <= parallel
            assert len(together) - len(of_digits) <= 1
            assert len(of_digits) <= 1 or not any(name.startswith("solver of") for name in of_digits)
        assert len(solvers(teacher)) <= 1
        for memory in set(memories):
            manifest = store.catalog.manifest(memory)
            ends = {task.task: task.state for task in store.catalog.tasks(memory)}
            assert set(names(manifest)) == {task for task, state in ends.items() if state is TaskState.LEARNED}
            assert manifest.complete
            assert set(ends.values()) <= {TaskState.LEARNED, TaskState.FAILED}
        assert store.catalog.digests() == set(store.blobs)


async def conducted(store, teacher, memories, outcomes, parallel):
    """Sends all tasks, then ends what learns, in the order and manner that were drawn."""
    queue = TaskQueue(store, teacher, Witness(), parallel=parallel)
    budget = IngestBudget(limit=1 << 20, max_queue=len(memories))
    for index, memory in enumerate(memories):
        buffer = IngestBuffer(SPEC, budget.reserve())
        record = TaskRecord(memory, f"{memory}{index}", (0,), 0, "d0")
        await queue.submit(record, buffer, NOTHING, SIDE_BY_SIDE if memory == "digits" else ONE_BY_ONE)
    async with asyncio.timeout(60):
        while not all(settled(store, memory) for memory in set(memories)):
            await asyncio.sleep(0.005)  # for as much to begin as may
            if begun := sorted(teacher.lessons):
                place, well = outcomes.pop() if outcomes else (0, True)
                await teacher.end(begun[place % len(begun)], well)
    await queue.close()
    assert budget.used == 0


def settled(store, memory):
    return all(task.state.final for task in store.catalog.tasks(memory)) and store.catalog.manifest(memory).complete
