"""What the server says: memories, tasks, samples, classifications."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager

from memory_api.v1 import memory_pb2 as pb

from dgm_core.memories import kind_of
from dgm_core.memory import Progress
from memory_server.codec.analysis import task_analysis
from memory_server.codec.formats import layout_code
from memory_server.codec.values import label_message, spec_message
from memory_server.learning.status import SleepState, SleepStatus, TaskStatus
from memory_server.sampling.engine import Classified
from memory_server.sampling.ring import Placed, Ring
from memory_server.sampling.stream import Opening, Rows, Stream
from memory_server.store.records import MemoryRecord

_UNKNOWN_SECONDS = -1.0


def memory(record: MemoryRecord) -> pb.Memory:
    """A memory at its newest revision."""
    manifest = record.manifest
    return pb.Memory(
        name=record.name,
        kind=manifest.kind,
        options=manifest.options,
        spec=spec_message(manifest.spec.shape, manifest.spec.dtype),
        revision=manifest.revision,
        classes=map(label_message, manifest.classes),
        bytes=record.bytes,
        tasks=len(manifest.tasks),
        complete=manifest.complete,
        consolidated=sum(entry.consolidated for entry in manifest.tasks),
        drowsy=kind_of(manifest.kind).drowsy(manifest),
    )


def analysed_memory(record: MemoryRecord) -> pb.Memory:
    """A memory at its newest revision, with how each of its tasks uses the generator."""
    message = memory(record)
    message.analysis.extend(map(task_analysis, record.manifest.tasks))
    return message


def task(status: TaskStatus) -> pb.Task:
    """A task, in whatever state."""
    record = status.record
    return pb.Task(
        memory=record.memory,
        task=record.task,
        state=record.state.value,
        classes=map(label_message, record.classes),
        count=record.count,
        waiting_for=status.waiting_for,
        queue_position=status.position,
        starts_in_seconds=status.starts_in,
        progress=None if status.progress is None else _progress(status.progress),
        error=record.error,
        error_reason=record.error_reason,
        revision=record.revision,
        consolidated=record.consolidated,
        quality=record.quality,
        steps=record.steps,
        learn_seconds=record.learn_seconds,
        created_unix_ms=record.created_unix_ms,
        finished_unix_ms=record.finished_unix_ms,
    )


def sleep(status: SleepStatus) -> pb.SleepResponse:
    """A sleep that is not over."""
    if status.state is SleepState.QUEUED:
        queued = pb.SleepQueued(
            waiting_for=status.waiting_for, queue_position=status.position, starts_in_seconds=status.starts_in
        )
        return pb.SleepResponse(queued=queued)
    begun = pb.TaskProgress(seconds_left=_UNKNOWN_SECONDS)
    return pb.SleepResponse(progress=begun if status.progress is None else _progress(status.progress))


def slept(record: MemoryRecord) -> pb.SleepResponse:
    """The memory after its sleep."""
    return pb.SleepResponse(memory=memory(record))


async def samples(
    opening: AbstractAsyncContextManager[Stream], offered: AbstractContextManager[Ring | None]
) -> AsyncIterator[pb.SampleResponse]:
    """The messages of a stream of samples. None is kept here: the reader of the last may stall for long."""
    async with opening as stream:
        with offered as ring:
            async for answer in stream:
                made = [_sample(answer, ring)]
                del answer
                yield made.pop()


def _sample(answer: Opening | Rows, ring: Ring | None) -> pb.SampleResponse:
    """One message of a stream of samples; x goes into the ring where there is one and it has room."""
    if isinstance(answer, Rows):
        return _chunk(answer, None if ring is None else ring.put(answer.x))
    return pb.SampleResponse(
        header=pb.SampleHeader(
            revision=answer.revision,
            spec=spec_message(answer.form.shape, answer.form.dtype),
            classes=map(label_message, answer.classes),
            batch_size=answer.batch_size,
            layout=layout_code(answer.form.layout),
            shared=ring is not None,
        )
    )


def classification(classified: Classified) -> pb.ClassifyResponse:
    """The most probable classes, and the probabilities themselves."""
    return pb.ClassifyResponse(
        classes=map(label_message, classified.classes),
        y=classified.probabilities.argmax(axis=1).astype("<i4").tobytes(),
        probabilities=classified.probabilities.astype("<f4").tobytes(),
        revision=classified.revision,
    )


def _chunk(rows: Rows, placed: Placed | None) -> pb.SampleResponse:
    message = pb.SampleResponse()
    chunk = message.chunk  # filled in its place: a chunk that is put into a message is copied
    chunk.row, chunk.y = rows.row, rows.y
    if placed is None:
        chunk.x = b"".join(part.data for part in rows.x)
    else:
        chunk.shared.position, chunk.shared.length = placed.position, placed.length
    return message


def _progress(progress: Progress) -> pb.TaskProgress:
    seconds = progress.seconds_left
    return pb.TaskProgress(
        phase=progress.phase,
        step=progress.step,
        steps=progress.steps,
        fraction=progress.fraction,
        seconds_left=_UNKNOWN_SECONDS if seconds is None else seconds,
        metrics=progress.metrics,
        resumed_from_step=progress.resumed_from,
    )
