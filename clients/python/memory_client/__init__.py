"""Client of the generative-memory replay server: teach a memory task after task, sample from all of them.

from memory_client import Memory

memory = Memory("localhost:50051", name="digits")
memory.learn_task((x, y), task="t0")
x, y = memory.sample(classes=[0, 1], n=64)
"""

from memory_client.analysis import LayerUsage, MaskPoint, TaskAnalysis
from memory_client.errors import (
    AuditFailed,
    CannotInterpolate,
    DamagedExport,
    DamagedMemory,
    DeadlineExceeded,
    EmptyMemory,
    FieldViolation,
    ForkedWhileStreaming,
    InternalError,
    InvalidInput,
    MemoryExists,
    MemoryMismatch,
    MemoryServiceError,
    NotAllowed,
    NotAuthenticated,
    QualityTooLow,
    ServerBusy,
    ServerUnavailable,
    SolverRetraining,
    TaskCancelled,
    TaskExists,
    TaskFailed,
    TaskFinished,
    TaskInterrupted,
    TaskInUse,
    TaskRejected,
    TaskTooLarge,
    TaskUnfinished,
    TlsFailed,
    UnknownClass,
    UnknownMemory,
    UnknownRevision,
    UnknownTask,
    UploadStalled,
)
from memory_client.learning import TaskHandle
from memory_client.memory import Memory
from memory_client.progress import ProgressListener, TransferListener
from memory_client.types import Label, MemoryInfo, Task, TaskProgress, TaskState

__all__ = [
    "AuditFailed",
    "CannotInterpolate",
    "DamagedExport",
    "DamagedMemory",
    "DeadlineExceeded",
    "EmptyMemory",
    "FieldViolation",
    "ForkedWhileStreaming",
    "InternalError",
    "InvalidInput",
    "Label",
    "LayerUsage",
    "MaskPoint",
    "Memory",
    "MemoryExists",
    "MemoryInfo",
    "MemoryMismatch",
    "MemoryServiceError",
    "NotAllowed",
    "NotAuthenticated",
    "ProgressListener",
    "QualityTooLow",
    "ServerBusy",
    "ServerUnavailable",
    "SolverRetraining",
    "Task",
    "TaskAnalysis",
    "TaskCancelled",
    "TaskExists",
    "TaskFailed",
    "TaskFinished",
    "TaskHandle",
    "TaskInUse",
    "TaskInterrupted",
    "TaskProgress",
    "TaskRejected",
    "TaskState",
    "TaskTooLarge",
    "TaskUnfinished",
    "TlsFailed",
    "TransferListener",
    "UnknownClass",
    "UnknownMemory",
    "UnknownRevision",
    "UnknownTask",
    "UploadStalled",
]
