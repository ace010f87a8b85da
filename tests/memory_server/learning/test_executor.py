import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dgm_core.errors import CannotLearn
from dgm_core.manifest import Manifest
from dgm_core.memories import load_memory
from dgm_core.memory import Terms
from memory_server.learning.endings import failure
from memory_server.learning.errors import (
    LearningFailed,
    OutOfMemory,
    TaskTimedOut,
    WorkerDied,
    WorkerSilent,
    WorkerTooLarge,
)
from memory_server.learning.executor import LocalProcessExecutor
from memory_server.learning.messages import Job, Renewal
from memory_server.learning.watchdog import Bounds

ENDLESS = Terms(steps=10_000_000)
SERVER = Path(__file__).with_name("dying_server.py")


@pytest.fixture
def executor(store, gate) -> LocalProcessExecutor:
    return LocalProcessExecutor(store.blobs.directory, gate)


def job(manifest: Manifest, terms: Terms = ENDLESS, task: str = "t0") -> Job:
    return Job(manifest, task, ("cat", "dog"), 40, terms)


async def learning(executor, manifest, buffer) -> asyncio.Task:
    """A task that has reported its first progress and would go on for hours."""
    started = asyncio.Event()
    task = asyncio.create_task(executor.learn(job(manifest), buffer, lambda _: started.set()))
    await asyncio.wait({task, asyncio.create_task(started.wait())}, return_when=asyncio.FIRST_COMPLETED)
    assert not task.done()
    return task


async def test_a_worker_learns_reports_and_leaves_nothing_running(executor, manifest, rows, store, workers):
    phases = []
    with rows() as buffer:
        learned = await executor.learn(job(manifest, Terms(steps=10)), buffer, lambda p: phases.append(p.phase))
    assert workers() == []
    assert list(dict.fromkeys(phases)) == ["generator", "solver"]
    assert learned.entry.classes == ("cat", "dog")
    for content in learned.blobs.values():
        store.blobs.put(content)
    after = manifest.commit(learned)
    expert = load_memory(after, store.blobs).expert(learned.entry.experts[0].digest)
    assert expert.classes == ("cat", "dog")


@pytest.mark.slow
async def test_a_worker_makes_the_solver_anew_from_the_blobs_alone(executor, manifest, rows, store, workers):
    with rows() as buffer:
        learned = await executor.learn(job(manifest, Terms(steps=10)), buffer, lambda _: None)
    incomplete = manifest.commit(replace(learned, shared={}))
    store.blobs.put(learned.blobs[learned.entry.blob])
    phases = []
    shared = await executor.renew(Renewal.SOLVER, incomplete, lambda p: phases.append(p.phase))
    assert workers() == []
    assert set(phases) == {"solver"}
    solver = load_memory(incomplete.restored(shared), shared.blobs | dict(store.blobs)).solver()
    assert solver.classes == ("cat", "dog")


async def test_a_worker_that_cannot_restore_a_memory_says_why(executor, manifest, rows, workers):
    with rows() as buffer:
        learned = await executor.learn(job(manifest, Terms(steps=10)), buffer, lambda _: None)
    with pytest.raises(LearningFailed, match="KeyError") as failed:
        await executor.renew(Renewal.SOLVER, manifest.commit(learned), lambda _: None)
    assert any("in load_memory" in frame for frame in failed.value.frames)
    assert workers() == []


async def test_data_that_does_not_suit_the_memory_is_refused_with_its_field(executor, manifest, rows):
    with rows(4) as buffer:
        too_few = Job(manifest, "t0", ("cat", "dog"), 4, Terms(steps=10))
        with pytest.raises(CannotLearn, match="examples") as refused:
            await executor.learn(too_few, buffer, lambda _: None)
    assert refused.value.field == "count"


async def test_a_killed_worker_is_told_by_its_signal(executor, manifest, rows, workers):
    with rows() as buffer:
        task = await learning(executor, manifest, buffer)
        (worker,) = workers()
        worker.send_signal(signal.SIGKILL)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            await asyncio.wait_for(task, 5)


async def test_a_worker_killed_when_the_machine_ran_out_of_memory_says_so(
    executor, manifest, rows, workers, monkeypatch
):
    killed = iter([3, 4])
    monkeypatch.setattr("memory_server.learning.executor.kills_for_memory", lambda: next(killed))
    with rows() as buffer:
        task = asyncio.create_task(executor.learn(job(manifest), buffer, lambda _: None))
        while not workers():
            await asyncio.sleep(0.01)
        workers()[0].kill()
        with pytest.raises(OutOfMemory):
            await asyncio.wait_for(task, 5)


@pytest.mark.parametrize(
    ("bounds", "error", "reason"),
    [
        (Bounds(memory_bytes=32 << 20), WorkerTooLarge, "OUT_OF_MEMORY"),
        (Bounds(seconds=0.3), TaskTimedOut, "TASK_TIMED_OUT"),
        (Bounds(silence_seconds=0.3), WorkerSilent, "WORKER_SILENT"),
    ],
)
async def test_a_worker_that_breaks_a_bound_is_ended_and_its_task_says_which(
    bounds, error, reason, executor, manifest, rows, workers
):
    """Loading torch, a process soon fills more than the first bound allows, and gives no sign of life."""
    with rows() as buffer, pytest.raises(error) as broken:
        await replace(executor, bounds=bounds).learn(job(manifest), buffer, lambda _: None)
    assert workers() == []
    assert failure(broken.value, "digits", "t0").error_reason == reason


async def test_a_stopped_worker_is_taken_to_hang_and_ended(executor, manifest, rows, workers):
    with rows() as buffer:
        task = asyncio.create_task(
            replace(executor, bounds=Bounds(silence_seconds=1)).learn(job(manifest), buffer, lambda _: None)
        )
        while not workers():
            await asyncio.sleep(0.01)
        workers()[0].suspend()
        with pytest.raises(WorkerSilent, match="1 s"):
            await asyncio.wait_for(task, 30)
    assert workers() == []


async def test_a_cancelled_worker_is_gone_within_two_seconds(executor, manifest, rows, workers):
    with rows() as buffer:
        task = await learning(executor, manifest, buffer)
        before = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - before < 2.0
        assert workers() == []


async def test_a_worker_cancelled_while_it_starts_is_gone_too(executor, manifest, rows, workers):
    with rows() as buffer:
        task = asyncio.create_task(executor.learn(job(manifest), buffer, lambda _: None))
        while not workers():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert workers() == []


async def test_a_worker_steps_back_behind_the_server_even_when_memory_runs_out_and_ignores_ctrl_c(
    executor, manifest, rows, workers
):
    with rows() as buffer:
        task = await learning(executor, manifest, buffer)
        (worker,) = workers()
        assert worker.nice() > psutil.Process().nice()
        assert os.getsid(worker.pid) == os.getsid(0), "Linux shares processors between sessions before it looks at nice"
        assert os.getpgid(worker.pid) == worker.pid
        assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text() == "1000\n"
        assert worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        worker.send_signal(signal.SIGINT)
        await asyncio.sleep(0.2)
        assert worker.is_running()
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.parametrize("when", ["starting", "learning"])
def test_a_worker_whose_server_is_killed_is_gone_within_two_seconds(when, tmp_path):
    server = subprocess.Popen([sys.executable, str(SERVER), str(tmp_path / "data"), when], stdout=subprocess.PIPE)
    with server:
        worker = psutil.Process(int(server.stdout.readline()))
        assert worker.is_running()
        server.send_signal(signal.SIGKILL)
        worker.wait(2)
    assert not worker.is_running()
