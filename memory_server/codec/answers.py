"""What the server says: memories, tasks, samples, classifications."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass

from memory_api.v1 import memory_pb2 as pb
from numpy import ndarray

from dgm_core.memories import KINDS
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
_LABEL_BYTES = 4


def memory(record: MemoryRecord) -> pb.Memory:
    """A memory at its newest revision; one of a kind that this server does not have never sleeps."""
    manifest = record.manifest
    kind = KINDS.get(manifest.kind)
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
        drowsy=kind is not None and kind.drowsy(manifest),
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


_CHUNK = bytes([pb.SampleResponse.CHUNK_FIELD_NUMBER << 3 | 2])
_X = bytes([pb.SampleChunk.X_FIELD_NUMBER << 3 | 2])
"""What stands before a field that has a length, in the wire format of protobuf; the length follows."""


@dataclass(frozen=True)
class Samples:
    """A message of a stream of samples, whose x is copied once, from its arrays to the bytes that are sent.

    Protobuf would copy it twice more: when the field is set, and when the message is written.

    Arguments:
        message: all of it but what its chunk has in `x`.
        x: that, as C-contiguous arrays that follow each other.
    """

    message: pb.SampleResponse
    x: tuple[ndarray, ...] = ()

    @property
    def rows(self) -> int:
        """How many it has; a header and a heartbeat have none."""
        return len(self.message.chunk.y) // _LABEL_BYTES

    @property
    def nbytes(self) -> int:
        """Bytes of x, wherever they are."""
        return self._length + self.message.chunk.shared.length

    def written(self) -> bytes:
        """As protobuf would write it."""
        if not self.x:
            return self.message.SerializeToString()
        rest, x = self.message.chunk.SerializeToString(), _X + _varint(self._length)
        length = _varint(len(rest) + len(x) + self._length)
        return b"".join((_CHUNK, length, rest, x, *(part.data for part in self.x)))

    @property
    def _length(self) -> int:
        return sum(part.nbytes for part in self.x)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, each but the last with the eighth set."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


async def samples(
    opening: AbstractAsyncContextManager[Stream], offered: AbstractContextManager[Ring | None]
) -> AsyncIterator[Samples]:
    """The messages of a stream of samples. None is kept here: the reader of the last may stall for long."""
    async with opening as stream:
        with offered as ring:
            async for answer in stream:
                made = [_sample(answer, ring)]
                del answer
                yield made.pop()


def _sample(answer: Opening | Rows, ring: Ring | None) -> Samples:
    """One message of a stream of samples; x goes into the ring where there is one and it has room."""
    if isinstance(answer, Rows):
        return _chunk(answer, None if ring is None else ring.put(answer.x))
    header = pb.SampleHeader(
        revision=answer.revision,
        spec=spec_message(answer.form.shape, answer.form.dtype),
        classes=map(label_message, answer.classes),
        batch_size=answer.batch_size,
        layout=layout_code(answer.form.layout),
        shared=ring is not None,
    )
    return Samples(pb.SampleResponse(header=header))


def classification(classified: Classified) -> pb.ClassifyResponse:
    """The most probable classes, and the probabilities themselves."""
    return pb.ClassifyResponse(
        classes=map(label_message, classified.classes),
        y=classified.probabilities.argmax(axis=1).astype("<i4").tobytes(),
        probabilities=classified.probabilities.astype("<f4").tobytes(),
        revision=classified.revision,
    )


def _chunk(rows: Rows, placed: Placed | None) -> Samples:
    message = pb.SampleResponse(chunk=pb.SampleChunk(row=rows.row, y=rows.y))
    if placed is None:
        return Samples(message, rows.x)
    message.chunk.shared.position, message.chunk.shared.length = placed.position, placed.length
    return Samples(message)


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
