"""How a task ends that is not learned, and what its owner is told."""

from dataclasses import dataclass

import structlog

from dgm_core.errors import CannotLearn, QualityTooLow, TrainingDiverged
from memory_server.errors import MemoryServerError
from memory_server.learning.errors import (
    Interrupted,
    LearningFailed,
    OutOfMemory,
    TaskTimedOut,
    WorkerDied,
    WorkerSilent,
    logged,
)
from memory_server.store.catalog import INTERRUPTED, INTERRUPTED_REASON
from memory_server.store.errors import DiskFailed
from memory_server.store.records import TaskState

REASONS: dict[type[Exception], str] = {
    QualityTooLow: "QUALITY_TOO_LOW",
    TrainingDiverged: "TRAINING_DIVERGED",
    CannotLearn: "CANNOT_LEARN",
    WorkerDied: "WORKER_DIED",
    OutOfMemory: "OUT_OF_MEMORY",
    TaskTimedOut: "TASK_TIMED_OUT",
    WorkerSilent: "WORKER_SILENT",
    Interrupted: INTERRUPTED_REASON,
    DiskFailed: "NOT_STORED",
}
"""What failed -> the name that the wire has for it."""


GOES_ON = frozenset({"WORKER_DIED", "WORKER_SILENT", INTERRUPTED_REASON})
"""Why a task ended that may well go on where it was once it is sent again: nothing was wrong with it."""


@dataclass(frozen=True)
class Ending:
    """A final state, the reason in words, and the reason for machines (see `TaskRecord`)."""

    state: TaskState
    error: str = ""
    error_reason: str = ""


CANCELLED = Ending(TaskState.CANCELLED)
SERVER_STOPPED = Ending(TaskState.FAILED, INTERRUPTED, INTERRUPTED_REASON)


def failure(error: Exception, memory: str, task: str) -> Ending:
    """The ending that an exception means. An unforeseen one is logged, and nobody is told what it says."""
    reason = next((name for kind, name in REASONS.items() if isinstance(error, kind)), "")
    if not reason and not isinstance(error, MemoryServerError):
        error = LearningFailed.of(error)
    if isinstance(error, LearningFailed):
        structlog.get_logger().error("a task failed unexpectedly", memory=memory, task=task, **logged(error))
    return Ending(TaskState.FAILED, str(error), reason)
