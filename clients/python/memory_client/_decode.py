"""Wire messages -> Python values: tasks, memories, labels and rows of samples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy.typing import NDArray

from memory_client.analysis import LayerUsage, MaskPoint, TaskAnalysis
from memory_client.errors import InternalError
from memory_client.types import DTypeName, Label, MemoryInfo, Sleep, Task, TaskProgress, TaskState

T = TypeVar("T")

_DTYPES: dict[int, DTypeName] = {pb.UINT8: "uint8", pb.FLOAT32: "float32"}
_WIRE: dict[int, str] = {pb.UINT8: "u1", pb.FLOAT16: "<f2", pb.FLOAT32: "<f4"}


def labels(classes: Iterable[pb.ClassLabel]) -> tuple[Label, ...]:
    """Classes as Python integers or strings."""
    return tuple(each.integer if each.HasField("integer") else each.text for each in classes)


def label_array(classes: Sequence[Label]) -> NDArray[Any]:
    """Classes as an array to index with y: int64 or unicode."""
    return np.array(classes, np.int64 if all(isinstance(label, int) for label in classes) else np.str_)


def rows(spec: pb.DataSpec, content: bytes) -> NDArray[Any]:
    """Rows of x as a read-only view (n, *shape) of the message's bytes."""
    return np.frombuffer(content, _known(_WIRE, spec.dtype)).reshape(-1, *spec.shape)


def indices(content: bytes) -> NDArray[np.int32]:
    """The class index of each row."""
    return np.frombuffer(content, "<i4")


def memory(message: pb.Memory) -> MemoryInfo:
    """One memory."""
    return MemoryInfo(
        name=message.name,
        kind=message.kind,
        options=dict(message.options),
        shape=tuple(message.spec.shape),
        dtype=_known(_DTYPES, message.spec.dtype),
        revision=message.revision,
        classes=labels(message.classes),
        bytes=message.bytes,
        tasks=message.tasks,
        complete=message.complete,
        consolidated=message.consolidated,
        drowsy=message.drowsy,
        analysis=tuple(map(_analysis, message.analysis)),
    )


def task(message: pb.Task) -> Task:
    """One task."""
    return Task(
        memory=message.memory,
        name=message.task,
        state=TaskState(pb.TaskState.Name(message.state)),
        classes=labels(message.classes),
        count=message.count,
        waiting_for=message.waiting_for,
        queue_position=message.queue_position or None,
        starts_in=message.starts_in_seconds if message.HasField("starts_in_seconds") else None,
        progress=_progress(message.progress) if message.HasField("progress") else None,
        error=message.error,
        error_reason=message.error_reason,
        revision=message.revision or None,
        quality=message.quality if message.HasField("quality") else None,
        consolidated=message.consolidated,
        steps=message.steps,
        learn_seconds=message.learn_seconds,
        created=_time(message.created_unix_ms),
        finished=_time(message.finished_unix_ms),
    )


def sleep(message: pb.SleepResponse) -> Iterator[Sleep | MemoryInfo]:
    """A sleep that is not over, or the memory after it."""
    match message.WhichOneof("message"):
        case "memory":
            yield memory(message.memory)
        case "queued":
            queued = message.queued
            yield Sleep(queued.waiting_for, queued.queue_position or None, queued.starts_in_seconds)
        case _:
            yield Sleep(progress=_progress(message.progress) if message.progress.phase else None)


def _known(dtypes: Mapping[int, T], code: int) -> T:
    try:
        return dtypes[code]
    except KeyError:
        raise InternalError(f"the server has x of an unknown dtype ({code}): upgrade this client") from None


def _progress(message: pb.TaskProgress) -> TaskProgress:
    return TaskProgress(
        phase=message.phase,
        step=message.step,
        steps=message.steps,
        fraction=message.fraction,
        seconds_left=message.seconds_left if message.seconds_left >= 0 else None,
        metrics=dict(message.metrics),
        resumed_from_step=message.resumed_from_step,
    )


def _analysis(message: pb.TaskAnalysis) -> TaskAnalysis:
    return TaskAnalysis(
        task=message.task,
        gate=message.gate,
        layers=tuple(LayerUsage(u.layer, u.size, u.reserved, u.reused, u.free) for u in message.layers),
        trajectory=tuple(MaskPoint(p.step, p.slope, dict(p.occupancy)) for p in message.trajectory),
        parameters=message.parameters,
        worst_case=message.worst_case,
        weight_bytes=message.weight_bytes,
        mask_bytes=message.mask_bytes,
        own_bytes=message.own_bytes,
        erasable=message.erasable,
        consolidated=message.consolidated,
        reuses=tuple(message.reuses),
    )


def _time(unix_ms: int) -> datetime | None:
    return datetime.fromtimestamp(unix_ms / 1000, UTC) if unix_ms else None
