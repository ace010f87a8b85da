"""From exceptions to statuses: one table, and the details that a client can act on."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from dgm_core.errors import CannotBlend, CannotForget, CannotSleep
from memory_server import errors
from memory_server.faults import frames_of
from memory_server.store.errors import BadArchive, CorruptBlob, DiskFailed

DOMAIN = "memory_api"

# Statuses travel as HTTP/2 headers, of which peers accept about 8 KiB.
_LONGEST_MESSAGE = 1000


@dataclass(frozen=True)
class Verdict:
    """What a caller sees of an exception: the status code and the machine-readable reason."""

    code: grpc.StatusCode
    reason: str


VERDICTS: dict[type[Exception], Verdict] = {
    errors.BadRequest: Verdict(grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST"),
    errors.UnknownMemory: Verdict(grpc.StatusCode.NOT_FOUND, "UNKNOWN_MEMORY"),
    errors.UnknownTask: Verdict(grpc.StatusCode.NOT_FOUND, "UNKNOWN_TASK"),
    errors.UnknownClass: Verdict(grpc.StatusCode.NOT_FOUND, "UNKNOWN_CLASS"),
    errors.UnknownRevision: Verdict(grpc.StatusCode.NOT_FOUND, "UNKNOWN_REVISION"),
    errors.MemoryExists: Verdict(grpc.StatusCode.ALREADY_EXISTS, "MEMORY_EXISTS"),
    errors.TaskExists: Verdict(grpc.StatusCode.ALREADY_EXISTS, "TASK_EXISTS"),
    errors.MemoryMismatch: Verdict(grpc.StatusCode.FAILED_PRECONDITION, "MEMORY_MISMATCH"),
    errors.TaskFinished: Verdict(grpc.StatusCode.FAILED_PRECONDITION, "TASK_FINISHED"),
    errors.TaskUnfinished: Verdict(grpc.StatusCode.FAILED_PRECONDITION, "TASK_UNFINISHED"),
    CannotForget: Verdict(grpc.StatusCode.FAILED_PRECONDITION, "TASK_IN_USE"),
    CannotSleep: Verdict(grpc.StatusCode.FAILED_PRECONDITION, "CANNOT_SLEEP"),
    CannotBlend: Verdict(grpc.StatusCode.FAILED_PRECONDITION, "CANNOT_BLEND"),
    errors.EmptyMemory: Verdict(grpc.StatusCode.FAILED_PRECONDITION, "EMPTY_MEMORY"),
    errors.TaskTooLarge: Verdict(grpc.StatusCode.RESOURCE_EXHAUSTED, "TASK_TOO_LARGE"),
    errors.UploadStalled: Verdict(grpc.StatusCode.DEADLINE_EXCEEDED, "UPLOAD_STALLED"),
    errors.ServerBusy: Verdict(grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_BUSY"),
    errors.ClientLimit: Verdict(grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT_LIMIT"),
    errors.Unauthenticated: Verdict(grpc.StatusCode.UNAUTHENTICATED, "NO_VALID_TOKEN"),
    errors.PermissionDenied: Verdict(grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED"),
    errors.AuditFailed: Verdict(grpc.StatusCode.UNAVAILABLE, "AUDIT_FAILED"),
    errors.SolverRetraining: Verdict(grpc.StatusCode.UNAVAILABLE, "SOLVER_RETRAINING"),
    errors.Superseded: Verdict(grpc.StatusCode.UNAVAILABLE, "SUPERSEDED"),
    errors.ShuttingDown: Verdict(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN"),
    BadArchive: Verdict(grpc.StatusCode.INVALID_ARGUMENT, "BAD_ARCHIVE"),
    DiskFailed: Verdict(grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FAILED"),
    CorruptBlob: Verdict(grpc.StatusCode.DATA_LOSS, "CORRUPT_BLOB"),
    errors.SleepFailed: Verdict(grpc.StatusCode.INTERNAL, "SLEEP_FAILED"),
    errors.Broken: Verdict(grpc.StatusCode.INTERNAL, "INTERNAL"),
}
"""The table. An exception is looked up by its class, then by its bases."""

_UNFORESEEN = Verdict(grpc.StatusCode.INTERNAL, "INTERNAL")


def verdict_on(error: Exception) -> Verdict | None:
    """The row of the table for an exception, None if it is not foreseen."""
    return next((VERDICTS[base] for base in type(error).__mro__ if base in VERDICTS), None)


def code_of(error: Exception) -> str:
    """The name of the status code that an exception ends a call with."""
    return (verdict_on(error) or _UNFORESEEN).code.name


@asynccontextmanager
async def translated(
    method: str, context: grpc.aio.ServicerContext[Any, Any], *trailers: tuple[str, str]
) -> AsyncIterator[None]:
    """Ends the call with the status of whatever exception leaves the block; `trailers` are sent along with it."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except grpc.aio.InternalError:  # of gRPC: what is written to a caller who has left
        raise asyncio.CancelledError from None
    except Exception as error:
        status = rpc_status.to_status(status_of(error) if verdict_on(error) else _incident(method, error))
        await context.abort(status.code, status.details, (*status.trailing_metadata, *trailers))


def status_of(error: Exception) -> status_pb2.Status:
    """The status of a foreseen exception, with its google.rpc details."""
    verdict = verdict_on(error) or _UNFORESEEN
    details: list[message.Message] = [error_details_pb2.ErrorInfo(reason=verdict.reason, domain=DOMAIN)]
    if isinstance(error, errors.BadRequest):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_bounded(error.field), description=_bounded(error.description)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.Busy):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(1000 * error.retry_after))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=_number(verdict.code), message=_bounded(str(error)), details=map(_any, details))


def _incident(method: str, error: Exception) -> status_pb2.Status:
    """Logs an unforeseen exception without its message or locals, which might hold data, and gives it a number."""
    incident = uuid.uuid4().hex[:12]
    structlog.get_logger().error(
        "incident", incident=incident, method=method, error=type(error).__name__, frames=frames_of(error)
    )
    return status_pb2.Status(
        code=code_pb2.INTERNAL,
        message=f"the server failed in a way that nobody foresaw; its log has the details under incident {incident}",
        details=[
            _any(error_details_pb2.ErrorInfo(reason=_UNFORESEEN.reason, domain=DOMAIN, metadata={"incident": incident}))
        ],
    )


def _bounded(text: str) -> str:
    return text.encode()[:_LONGEST_MESSAGE].decode(errors="ignore")


def _number(code: grpc.StatusCode) -> int:
    return int(code.value[0])


def _any(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
