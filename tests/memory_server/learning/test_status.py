import asyncio
from dataclasses import replace

import pytest

from dgm_core.memory import Progress
from memory_server.learning.status import LiveStatus, TaskStatus
from memory_server.store.records import TaskRecord, TaskState

QUEUED = TaskStatus(TaskRecord("digits", "t0", (0, 1), 40, "d0"))


def at(state: TaskState) -> TaskStatus:
    return TaskStatus(replace(QUEUED.record, state=state))


async def test_the_present_state_comes_at_once_and_a_final_one_ends_the_watch():
    live = LiveStatus(at(TaskState.LEARNED))
    assert [status async for status in live.watch(60.0)] == [at(TaskState.LEARNED)]


async def test_a_change_during_the_reading_of_the_last_one_is_not_missed():
    live, seen = LiveStatus(QUEUED), []
    async for status in live.watch(60.0):
        seen.append(status)
        if status == QUEUED:
            live.set(at(TaskState.FAILED))
    assert seen == [QUEUED, at(TaskState.FAILED)]


async def test_a_slow_watcher_sees_the_newest_status_only():
    live = LiveStatus(QUEUED)
    watcher = live.watch(60.0)
    await anext(watcher)
    for step in range(1000):
        live.set(TaskStatus(QUEUED.record, progress=Progress("generator", step, 1000, 0.5)))
    newest = await anext(watcher)
    assert newest.progress is not None
    assert newest.progress.step == 999
    await watcher.aclose()


async def test_an_unchanged_status_is_repeated_as_a_heartbeat():
    live = LiveStatus(QUEUED)
    watcher = live.watch(0.01)
    assert [await anext(watcher) for _ in range(3)] == [QUEUED] * 3
    await watcher.aclose()


async def test_setting_the_same_status_wakes_nobody():
    live = LiveStatus(QUEUED)
    watcher = live.watch(60.0)
    await anext(watcher)
    live.set(TaskStatus(QUEUED.record))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(watcher), 0.05)
