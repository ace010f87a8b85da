"""What can go wrong, as one small tree: every class says whose turn it is, every message what to do next.

MemoryServiceError
├── InvalidInput ── TaskRejected          the request or the data must change
│   ├── DamagedExport                     the file is no exported memory, or not a whole one
│   └── MessageTooLarge                   a single message is more than the server, or this client, takes
├── UnknownMemory, UnknownTask, UnknownClass, UnknownRevision, EmptyMemory
├── MemoryExists, MemoryMismatch, TaskExists, TaskFinished, TaskUnfinished, TaskInUse, TaskTooLarge, CannotInterpolate
├── CannotSleep                           there is nothing to consolidate
├── TaskFailed                            the task ended without being learned
│   ├── QualityTooLow
│   └── TaskInterrupted               nothing was wrong with it: send it again
│       └── WorkerDied, WorkerSilent
├── TaskCancelled
├── DamagedMemory                         the server's disk has lost a part of it; its operator must act
├── DiskFailed                            the server's disk is full or fails; its operator must free space
├── TlsFailed, NotAuthenticated, NotAllowed   certificates, the token, or its rights must change
├── ServerBusy                            come back after `retry_after` seconds
├── ServerUnavailable, DeadlineExceeded   nobody answers, or not in time
│   ├── SolverRetraining                  not yet: a task was forgotten a moment ago
│   └── AuditFailed                       not until the server's operator has mended its audit log
├── MemoryClosed                          another thread or task has closed the memory, by your own will
├── ForkedWhileStreaming                  open the stream in this process, or end the parent's call before it is forked
└── InternalError                         the server, or this client, is at fault
    └── SleepFailed                       the memory is as it was
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from memory_client import _handshake

_DETAILS_KEY = "grpc-status-details-bin"
_REQUEST_ID_KEY = "x-request-id"


@dataclass(frozen=True)
class FieldViolation:
    """One malformed field of a request: its path, what is wrong with its value and how to mend it."""

    field: str
    description: str


class MemoryServiceError(Exception):
    """Root of the tree.

    Attributes:
        reason: the server's machine-readable name of the error, such as "UNKNOWN_CLASS"; empty if the client raised it.
        status: the gRPC status code; None if the client raised it.
        field_violations: the malformed fields of the request.
        retry_after: seconds after which to try again, where waiting helps.
        request_id: of the call, by which the server's log has it; empty if the client raised it.
    """

    advice: ClassVar[str] = ""  # what to do next, where the server cannot say it

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        status: grpc.StatusCode | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.field_violations = field_violations
        self.retry_after = retry_after
        self.request_id = request_id


class InvalidInput(MemoryServiceError, ValueError):
    """An argument or the data is malformed; `field_violations` names the fields that the server refused."""


class TaskRejected(InvalidInput):
    """The server refused the data of a task; nothing of it was kept."""


class DamagedExport(InvalidInput):
    """What was to be imported is no exported memory, or a damaged one; nothing of it was kept."""


class MessageTooLarge(InvalidInput):
    """A message is more than its receiver takes, however long one waits; nothing of its call was kept."""

    advice = "Send smaller rows or less in one call, or have the server's operator raise --max-message-bytes"


class DamagedMemory(MemoryServiceError):
    """A part of the memory is damaged on the server's disk; its other memories are not concerned."""


class UnknownMemory(MemoryServiceError):
    """The server has no memory of this name."""

    advice = "The first learn_task on a name creates its memory"


class UnknownTask(MemoryServiceError):
    """The memory has no task of this name."""


class UnknownClass(MemoryServiceError):
    """The memory, or the tasks asked for, never learned this class."""


class UnknownRevision(MemoryServiceError):
    """The memory has no such revision."""


class EmptyMemory(MemoryServiceError):
    """Nothing has been learned yet."""


class MemoryExists(MemoryServiceError):
    """The name is taken by another memory."""


class MemoryMismatch(MemoryServiceError):
    """The memory exists with another kind or other options than expected."""


class TaskExists(MemoryServiceError):
    """The memory holds a task of this name that learned other data."""


class TaskFinished(MemoryServiceError):
    """The task can no longer be cancelled."""


class TaskUnfinished(MemoryServiceError):
    """The task cannot be forgotten yet: it, or one that builds on it, is still being learned."""


class TaskInUse(MemoryServiceError):
    """The task cannot be forgotten: later ones reuse what it reserved, or it is consolidated; see its message."""


class CannotInterpolate(MemoryServiceError):
    """A memory of this kind has no styles to blend."""


class CannotSleep(MemoryServiceError):
    """A memory of this kind holds nothing apart, or all that it holds is consolidated."""


class TaskTooLarge(MemoryServiceError):
    """This task alone exceeds the server's ingest budget."""


class TaskFailed(MemoryServiceError):
    """The task ended without being learned; the message says why, and the memory is as it was."""


class QualityTooLow(TaskFailed):
    """The task stayed below the caller's `min_quality`; nothing was kept."""


class TaskInterrupted(TaskFailed):
    """What learned the task stopped or crashed before it was done, and the data is gone; send it again."""


class WorkerDied(TaskInterrupted):
    """The server's process that learned the task crashed, or was killed from outside; send it again."""


class WorkerSilent(TaskInterrupted):
    """The server's process that learned the task hung and was ended; send it again."""


class TaskCancelled(MemoryServiceError):
    """The task was cancelled; nothing was kept."""


class DiskFailed(MemoryServiceError):
    """The server's disk is full or fails, so that nothing was changed; it is for its operator to free space."""


class ServerBusy(MemoryServiceError):
    """The server is full, or this client holds its share of it; try again after `retry_after` seconds."""


class ServerUnavailable(MemoryServiceError):
    """No server answers."""

    advice = "Start one with `memory-server serve`, correct the target, or have it tried for longer (reconnect=)"


class SolverRetraining(ServerUnavailable):
    """The task solver is being trained anew, because a task was forgotten; all but `classify` works meanwhile."""

    advice = "Try again later, or pass a larger reconnect"


class AuditFailed(ServerUnavailable):
    """The server cannot note what it does, and so does nothing until its operator has mended its audit log."""


class DeadlineExceeded(MemoryServiceError, TimeoutError):
    """The answer did not come in time."""

    advice = "Try again, or pass a larger timeout"


class UploadStalled(DeadlineExceeded):
    """The stream of a task paused for so long, or was so slow, that the server gave it up; nothing of it was kept."""

    advice = "Send the task again, from a stream that yields at least every minute"


class TlsFailed(MemoryServiceError):
    """No TLS with the server: its certificate has expired, is for another host, or comes from an unknown authority."""


class NotAuthenticated(MemoryServiceError):
    """The server asks for a token, and this one it does not know, or no longer."""

    advice = "Pass token= (memoryctl: --token-file, or MEMORY_TOKEN) as the server's operator gave it"


class NotAllowed(MemoryServiceError):
    """The token has no right to do this with this memory, whether there is such a memory or not."""

    advice = "Ask the server's operator for a token with that right, or correct the memory's name"


class MemoryClosed(MemoryServiceError):
    """The memory was closed while it was used; a later call opens it again."""


class ForkedWhileStreaming(MemoryServiceError):
    """This process was forked in the middle of a stream, which is its parent's to read, or of a call that could not be
    broken off: gRPC cannot be used in it then.
    """


class InternalError(MemoryServiceError):
    """The server failed, or broke the protocol; its log says more."""


class SleepFailed(InternalError):
    """A memory could not consolidate what it holds; it is as it was, and learns and serves on."""


BY_REASON: Mapping[str, type[MemoryServiceError]] = {
    "BAD_REQUEST": InvalidInput,
    "UNKNOWN_MEMORY": UnknownMemory,
    "UNKNOWN_TASK": UnknownTask,
    "UNKNOWN_CLASS": UnknownClass,
    "UNKNOWN_REVISION": UnknownRevision,
    "EMPTY_MEMORY": EmptyMemory,
    "MEMORY_EXISTS": MemoryExists,
    "MEMORY_MISMATCH": MemoryMismatch,
    "TASK_EXISTS": TaskExists,
    "TASK_FINISHED": TaskFinished,
    "TASK_UNFINISHED": TaskUnfinished,
    "TASK_IN_USE": TaskInUse,
    "CANNOT_BLEND": CannotInterpolate,
    "CANNOT_SLEEP": CannotSleep,
    "SLEEP_FAILED": SleepFailed,
    "BAD_ARCHIVE": DamagedExport,
    "CORRUPT_BLOB": DamagedMemory,
    "DISK_FAILED": DiskFailed,
    "TASK_TOO_LARGE": TaskTooLarge,
    "SERVER_BUSY": ServerBusy,
    "CLIENT_LIMIT": ServerBusy,
    "AUDIT_FAILED": AuditFailed,
    "NO_VALID_TOKEN": NotAuthenticated,
    "NOT_ALLOWED": NotAllowed,
    "SOLVER_RETRAINING": SolverRetraining,
    "UPLOAD_STALLED": UploadStalled,
    "QUALITY_TOO_LOW": QualityTooLow,
    "TRAINING_DIVERGED": TaskFailed,
    "CANNOT_LEARN": TaskFailed,
    "OUT_OF_MEMORY": TaskFailed,
    "TASK_TIMED_OUT": TaskFailed,
    "WORKER_SILENT": WorkerSilent,
    "WORKER_DIED": WorkerDied,
    "TASK_INTERRUPTED": TaskInterrupted,
    "NOT_STORED": TaskFailed,
}
"""Every reason that memory.proto names -> the class that a caller catches."""

BY_STATUS: Mapping[grpc.StatusCode, type[MemoryServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerBusy,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailable,
    grpc.StatusCode.CANCELLED: ServerUnavailable,  # by a server that shuts down: our own cancellations are never read
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: NotAuthenticated,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
}
"""What a status means where the reason is absent or unknown; any other is an InternalError."""

_TOO_LARGE = "larger than max"
"""How gRPC itself refuses a message, which no server has seen: with RESOURCE_EXHAUSTED and this alone."""


def from_rpc(error: grpc.RpcError, target: str) -> MemoryServiceError:
    """The error that a failed call stands for; `target` is the address that was called."""
    status: grpc.StatusCode = error.code()
    if status is grpc.StatusCode.UNAVAILABLE and (why := _handshake.broken(error.details() or "")):
        return TlsFailed(f"no TLS with the memory server at {target}: {why}", status=status)
    if status is grpc.StatusCode.UNAVAILABLE and _handshake.forbidden(error.details() or "", target):
        return ServerUnavailable(
            f"{target} is not for the user of this process: the Unix socket of a memory server is for the server's own "
            "user and for root alone. Run as that user, or take the server's port, as in 'localhost:50051'",
            status=status,
        )
    details = _Details.of(error)
    text = error.details() or status.name
    kind = BY_REASON.get(details.reason) or BY_STATUS.get(status, InternalError)
    if kind is ServerBusy and not details.reason and _TOO_LARGE in text:
        kind = MessageTooLarge
    return kind(
        _message(kind, text, details, status, target),
        reason=details.reason,
        status=status,
        field_violations=details.field_violations,
        retry_after=details.retry_after,
        request_id=details.request_id,
    )


def unanswered(target: str, what: str) -> ServerUnavailable:
    """No server answers at an address, or it has ended a call by itself."""
    return ServerUnavailable(f"no memory server answers at {target} ({what}). {ServerUnavailable.advice}")


def unpicklable() -> TypeError:
    """A stream was to be sent to another process, or copied."""
    return TypeError(
        "a stream belongs to the process that opened it, and cannot be pickled or copied: give the workers of a "
        "DataLoader a memory_client.torch.ReplayDataset, or pickle the Memory and open the stream there, with seed= "
        "and start_at= where it shall go on"
    )


def as_rejection(error: InvalidInput) -> TaskRejected:
    """The same refusal, said of a task's data."""
    return TaskRejected(
        str(error),
        reason=error.reason,
        status=error.status,
        field_violations=error.field_violations,
        request_id=error.request_id,
    )


@dataclass(frozen=True)
class _Details:
    """The google.rpc details of a call and its id, read from its trailing metadata."""

    reason: str = ""
    field_violations: tuple[FieldViolation, ...] = ()
    retry_after: float | None = None
    request_id: str = ""

    @classmethod
    def of(cls, error: grpc.RpcError) -> "_Details":
        metadata: Any = error.trailing_metadata() or ()
        sent = dict(metadata)
        return cls.parse(sent.get(_DETAILS_KEY, b""), sent.get(_REQUEST_ID_KEY, ""))

    @classmethod
    def parse(cls, packed: bytes, request_id: str) -> "_Details":
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        for detail in status_pb2.Status.FromString(packed).details:
            for message in (info, bad, retry):
                detail.Unpack(message)
        violations = tuple(FieldViolation(each.field, each.description) for each in bad.field_violations)
        seconds = retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None
        return cls(info.reason, violations, seconds, request_id)


def _message(kind: type[MemoryServiceError], text: str, details: _Details, status: grpc.StatusCode, target: str) -> str:
    said = [text if kind in (SolverRetraining, AuditFailed) else _opening(text, status, target)]
    said += [f"{each.field}: {each.description}" for each in details.field_violations if each.description not in text]
    if details.retry_after is not None:
        said.append(f"Try again in {details.retry_after:g} s")
    elif kind.advice:
        said.append(kind.advice)
    if details.request_id:
        said.append(f"Request {details.request_id} in the server's log")
    return ". ".join(part.rstrip(". ") for part in said)


def _opening(text: str, status: grpc.StatusCode, target: str) -> str:
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return f"no memory server answers at {target} ({_handshake.doubted(text)})"
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"the memory server at {target} did not answer in time"
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return f"what answers at {target} is not a memory server, or an older one ({text})"
    return text
