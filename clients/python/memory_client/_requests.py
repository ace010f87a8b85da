"""What a client asks of one memory, as messages of the wire, and the answers that need more than decoding.

Both clients are made of this; what differs between them is how they wait.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy.typing import ArrayLike, DTypeLike, NDArray

from memory_client import _decode
from memory_client._batches import examples, rows_per_chunk
from memory_client._encode import (
    PADDING,
    class_labels,
    names,
    options_text,
    sample_format,
    sample_precision,
    spec,
    unsigned,
    within,
)
from memory_client.errors import InvalidInput
from memory_client.interpolation import Ends, add_path
from memory_client.sampling import Course, RowReader
from memory_client.types import Label, Layout, Precision

Classes = Label | Sequence[Label] | NDArray[Any] | None
"""One class, several, or None for all."""

_COUNTS = range(1, 2**63)  # what the wire can say; the server knows how many it gives
_SAMPLE_BATCH = 4096  # what a broken call to `sample` repeats at most


@dataclass(frozen=True)
class Requests:
    """Requests on one memory. Their methods raise InvalidInput for what the wire cannot say.

    Arguments:
        memory: its name.
        kind: of the memory; empty: no matter which.
        options: of the kind, as text.
    """

    memory: str
    kind: str
    options: Mapping[str, str]

    @classmethod
    def to(cls, name: str, kind: str | None, options: Mapping[str, object] | None) -> "Requests":
        """Requests on a memory of that name."""
        if not name:
            raise InvalidInput("name is empty: name the memory, as in Memory(target, name='digits')")
        return cls(name, kind or "", options_text(options or {}))

    def learn_header(
        self,
        task: str,
        *,
        steps: int | None,
        seconds: float | None,
        min_quality: float | None,
        erasable: bool,
        revises: str | None,
        classes: Classes,
    ) -> pb.LearnTaskHeader:
        """What is said before the data of a task; the spec is not in it yet."""
        return pb.LearnTaskHeader(
            memory=self.memory,
            task=task,
            classes=class_labels(classes),
            kind=self.kind,
            options=self.options,
            steps=None if steps is None else unsigned(steps, "steps"),
            seconds=seconds,
            min_quality=min_quality,
            erasable=erasable,
            revises=revises or "",
        )

    def sample(self, n: int, **chosen: Any) -> tuple[RowReader, int]:
        """A reader of n rows, and n; the other arguments are those of `Memory.sample`."""
        rows = within(n, _COUNTS, "n")
        request = self._sample(**chosen)
        request.n = rows
        request.batch_size = min(rows, _SAMPLE_BATCH)
        return RowReader.of_sample(request), rows

    def stream(self, batch_size: int, start_at: int, stride: int, n: int | None, **chosen: Any) -> pb.SampleRequest:
        """A request for batches; the arguments are those of `Memory.stream`."""
        request = self._sample(**chosen)
        request.batch_size = within(batch_size, range(1, 2**32), "batch_size")
        request.start_at = unsigned(start_at, "start_at")
        request.stride = within(stride, range(1, 2**64), "stride")
        if n is not None:
            request.n = within(n, _COUNTS, "n")
        return request

    def interpolate(
        self,
        start: str | None,
        end: str,
        weights: ArrayLike,
        n: int,
        *,
        seed: int | None,
        classes: Ends,
        groups: str | Sequence[str] | None,
        layers: str | Sequence[str] | None,
        revision: int | None,
        dtype: DTypeLike | None,
        layout: Layout | None,
        size: tuple[int, int] | None,
    ) -> tuple[RowReader, int, tuple[int, ...]]:
        """A reader of what lies between two tasks, its rows in total, and the shape of the weights and rows."""
        if not end:
            raise InvalidInput(f"end is {end!r}: name a task; only start may be the base, which is None")
        request = pb.InterpolateRequest(
            memory=self.memory,
            start=start or "",
            end=end,
            n=within(n, _COUNTS, "n"),
            seed=None if seed is None else unsigned(seed, "seed"),
            groups=names(groups, "groups"),
            layers=names(layers, "layers"),
            revision=0 if revision is None else unsigned(revision, "revision"),
            format=sample_format(dtype, layout, size),
        )
        shape = add_path(request, weights, classes)
        total = request.n * len(request.weights)
        return RowReader("Interpolate", request, Course(max(1, request.n), total)), total, (*shape, request.n)

    def classify(self, x: Any, task: str | None) -> list[pb.ClassifyRequest]:
        """Requests that each fill a message."""
        array = examples(x)
        step = rows_per_chunk(array)
        parts = [array[at : at + step] for at in range(0, len(array), step)] or [array]
        return [
            pb.ClassifyRequest(memory=self.memory, spec=spec(part), x=part.tobytes(), task=task, padding=PADDING)
            for part in parts
        ]

    def _sample(
        self,
        classes: Classes,
        seed: int | None,
        tasks: str | Sequence[str] | None,
        revision: int | None,
        dtype: DTypeLike | None,
        layout: Layout | None,
        size: tuple[int, int] | None,
        precision: Precision,
    ) -> pb.SampleRequest:
        return pb.SampleRequest(
            memory=self.memory,
            classes=class_labels(classes),
            tasks=names(tasks, "tasks"),
            seed=None if seed is None else unsigned(seed, "seed"),
            revision=0 if revision is None else unsigned(revision, "revision"),
            format=sample_format(dtype, layout, size),
            precision=sample_precision(precision),
        )


def labelled(replies: Sequence[pb.ClassifyResponse]) -> tuple[NDArray[Any], NDArray[np.float32]] | None:
    """Labels and probabilities of all parts; None if a task was committed in between: ask again."""
    if len({reply.revision for reply in replies}) > 1:
        return None
    classes = _decode.label_array(_decode.labels(replies[0].classes))
    indices = np.concatenate([_decode.indices(reply.y) for reply in replies])
    flat = np.concatenate([np.frombuffer(reply.probabilities, "<f4") for reply in replies])
    return classes[indices], flat.reshape(len(indices), len(classes))
