"""Teaching one task and taking the time of each of its phases."""

import time
from typing import Any

from memory_client import Memory, TaskHandle
from memory_client.types import Task, TaskState

from memory_server.demo.datasets import Part


def teach(memory: Memory, real: Part, task: str, steps: int | None, seconds: float | None) -> dict[str, Any]:
    """Teaches a task, or takes up one that was learned when an earlier run was killed.

    Returns:
        learn_seconds, steps_taken, quality: as the server tells them.
        split: seconds of each phase as a watcher sees them; empty if nobody watched.
        bytes: of the memory with this task.
    Raises:
        TaskFailed and others, as `Memory.learn_task` does.
    """
    handle = memory.learn_task((real.x, real.y), task=task, steps=steps, seconds=seconds, wait=False)
    split = watched(handle)
    learned = handle.result()
    return {
        "learn_seconds": learned.learn_seconds,
        "steps_taken": learned.steps,
        "quality": learned.quality,
        "split": split,
        "bytes": memory.describe().bytes,
    }


def slept(memory: Memory) -> dict[str, Any]:
    """Waits until a memory that its last task has made drowsy has slept.

    Returns:
        sleep_seconds: what that took.
        bytes: of the memory then.
        Neither, if it was not drowsy.
    Raises:
        SleepFailed: the memory is as it was.
    """
    started, info = time.monotonic(), memory.describe()
    if not info.drowsy:
        return {}
    while info.drowsy:
        memory.sleep(progress=False)
        info = memory.describe()
    return {"sleep_seconds": round(time.monotonic() - started, 2), "bytes": info.bytes}


def watched(handle: TaskHandle) -> dict[str, float]:
    """Seconds from one change of phase to the next, until the task has ended; a very short phase may be missed."""
    split: dict[str, float] = {}
    phase, since = "", time.monotonic()
    for snapshot in handle.watch():
        now = time.monotonic()
        if phase:
            split[phase] = split.get(phase, 0.0) + now - since
        phase, since = _phase(snapshot), now
    return {name: round(seconds, 2) for name, seconds in split.items()}


def _phase(task: Task) -> str:
    if task.state is TaskState.COMMITTING:
        return "commit"
    return task.progress.phase if task.progress is not None else "start"
