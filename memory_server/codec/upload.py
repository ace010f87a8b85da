"""One LearnTask stream, message by message: what it says is checked as soon as it is said."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy import ndarray

from dgm_core.manifest import Blobs, DataSpec, Label, Manifest
from dgm_core.memories import DEFAULT_KIND, kind_of, new_manifest
from dgm_core.memory import Bases, Terms
from memory_server.codec import values
from memory_server.errors import BadRequest, MemoryMismatch, UnknownTask
from memory_server.sampling.noise import canonical
from memory_server.store.records import TaskRecord

HEADER = "header."
"""Before the names of fields that a header has in common with other messages."""


@dataclass(frozen=True)
class Header:
    """What a client says of a task before its data.

    Arguments:
        memory, task: its names.
        incoming: how x arrives.
        classes, count: expectations, empty and None if there are none.
        kind, options: of the memory if this task makes it, else expectations.
        terms: on what terms the task is learned.
    """

    memory: str
    task: str
    incoming: values.Incoming
    classes: tuple[Label, ...]
    count: int | None
    kind: str
    options: dict[str, str]
    terms: Terms

    @classmethod
    def decode(cls, message: pb.LearnTaskHeader) -> "Header":
        """Checks all that can be checked without knowing the memory. Raises BadRequest."""
        if message.HasField("count") and message.count == 0:
            raise BadRequest("header.count", "0 rows teach nothing; send at least a few, or leave the count out")
        values.check_length(message.kind, values.MAX_KIND, "header.kind")
        return cls(
            memory=values.name(message.memory, "header.memory"),
            task=values.name(message.task, "header.task"),
            incoming=values.Incoming.decode(message.spec, "header."),
            classes=values.labels(message.classes, "header.classes"),
            count=message.count if message.HasField("count") else None,
            kind=message.kind,
            options=values.options(message.options, "header.options"),
            terms=_terms(message),
        )

    def manifest(self, bases: Bases) -> Manifest:
        """The empty memory that this task makes if there is none. Raises BadRequest for an unknown kind or option."""
        return empty_memory(self.kind, self.options, self.incoming.spec, bases, HEADER)

    def check(self, present: Manifest, known: Sequence[Label], bases: Bases) -> None:
        """Holds the header against the memory that is there and the classes `known` to it, queued tasks included.

        Raises:
            MemoryMismatch: it has another kind or other options.
            BadRequest: it holds other x, or its classes are of the other type.
        """
        if self.kind and self.kind != present.kind:
            raise MemoryMismatch(f"header.kind: memory {self.memory!r} is of kind {present.kind!r}, not {self.kind!r}")
        wanted = empty_memory(present.kind, self.options, present.spec, bases, HEADER).options if self.options else {}
        for key, given in self.options.items():
            if wanted[key] != (held := present.options.get(key)):
                has = f"was made when there was no {key}" if held is None else f"has {key}={held}"
                said = given if given == wanted[key] else f"{given} ({wanted[key]})"
                raise MemoryMismatch(
                    f"header.options: memory {self.memory!r} {has}, not {said}; "
                    "leave the option out, or choose another memory"
                )
        if self.incoming.spec.shape != present.spec.shape:
            held = f"memory {self.memory!r} holds x of shape {present.spec.shape}"
            raise BadRequest("header.spec.shape", f"{held}, not {self.incoming.spec.shape}; resize them")
        _check_type(self.classes, known, "header.classes")

    def check_repeated(self, kind: str, tasks: Sequence[str]) -> None:
        """Checks that this task may repeat the one that it says it does, if any.

        Arguments:
            kind: of the memory.
            tasks: of the memory, queued ones included.

        Raises:
            BadRequest: the kind does not repeat tasks.
            UnknownTask: there is no such other task.
        """
        if not self.terms.revises:
            return
        if not kind_of(kind).repeats:
            raise BadRequest(
                "header.revises",
                f"a memory of kind {kind} does not repeat tasks; leave it empty, not {self.terms.revises!r}",
            )
        if self.terms.revises not in (others := [task for task in tasks if task != self.task]):
            raise UnknownTask(self.memory, self.terms.revises, others)


class Upload:
    """The data of one LearnTask stream: decodes chunks, keeps the class table, the count and the digest.

    Arguments:
        header: what the client said before.
        known: classes of the memory, those of queued tasks included.

    Attributes:
        classes: the class table so far.
        count: rows so far.
    """

    def __init__(self, header: Header, known: Sequence[Label]) -> None:
        self.header = header
        self.classes: list[Label] = []
        self.count = 0
        self._known = known
        self._declared = frozenset(header.classes)
        self._encoded: list[bytes] = []
        self._rows_of: ndarray = np.zeros(0, np.int64)
        self._x_hash = hashlib.sha256()
        self._y_hash = hashlib.sha256()

    def chunk(self, message: pb.LearnTaskChunk) -> tuple[ndarray, ndarray]:
        """The rows of a chunk: x in the dtype of the memory, y int32 indices into `classes`. Raises BadRequest."""
        self._announce(message)
        x = self.header.incoming.rows(message.x, "chunk.x")
        y = self._labels(message.y, len(x))
        self.count += len(y)
        if self.header.count is not None and self.count > self.header.count:
            raise BadRequest(
                "header.count", f"{self.header.count} rows were announced and at least {self.count} were sent"
            )
        self._x_hash.update(message.x)
        self._y_hash.update(b"".join(map(self._encoded.__getitem__, y.tolist())))
        self._rows_of = self._rows_of + np.bincount(y, minlength=len(self.classes))
        return x, y

    def finish(self, message: pb.LearnTaskFinish) -> TaskRecord:
        """The complete task. Raises BadRequest if count, digest or classes are not as declared."""
        if self.header.count is not None and self.count != self.header.count:
            raise BadRequest("header.count", f"{self.header.count} rows were announced and {self.count} were sent")
        if message.count != self.count:
            raise BadRequest("finish.count", f"{self.count} rows arrived, not {message.count}; send the task again")
        if self.count == 0:
            raise BadRequest("finish.count", "0 rows teach nothing; send at least a few examples")
        self._check_classes()
        digest = hashlib.sha256(self._x_hash.digest() + self._y_hash.digest())
        if message.digest != digest.digest():
            raise BadRequest("finish.digest", "the data that arrived has another digest; send the task again")
        return TaskRecord(self.header.memory, self.header.task, tuple(self.classes), self.count, digest.hexdigest())

    def _announce(self, message: pb.LearnTaskChunk) -> None:
        if not message.new_classes:
            return
        field = "chunk.new_classes"
        values.check_number(len(self.classes) + len(message.new_classes), values.MAX_CLASSES, field)
        fresh = [values.label(one, f"{field}[{index}]") for index, one in enumerate(message.new_classes)]
        values.check_labels([*self.classes, *fresh], field)
        _check_type(fresh, self._known, field)
        for one in fresh:
            if self._declared and one not in self._declared:
                raise BadRequest(field, f"class {one!r} is not among the classes that the header declares")
        self.classes += fresh
        self._encoded += map(canonical, fresh)
        self._rows_of = np.pad(self._rows_of, (0, len(fresh)))

    def _labels(self, y: bytes, rows: int) -> ndarray:
        if len(y) != 4 * rows:
            raise BadRequest("chunk.y", f"{len(y)} bytes of labels do not fit {rows} rows of x; send one int32 per row")
        indices = np.frombuffer(y, "<i4")
        wrong = (indices < 0) | (indices >= len(self.classes))
        if wrong.any():
            raise BadRequest(
                "chunk.y",
                f"label {indices[wrong][0]} is not an index into the {len(self.classes)} classes announced so far",
            )
        return indices

    def _check_classes(self) -> None:
        missing = self._declared.difference(self.classes)
        if missing:
            first = next(one for one in self.header.classes if one in missing)
            raise BadRequest("header.classes", f"class {first!r} is declared and no row has it")
        if not self._rows_of.all():
            unused = self.classes[int(np.argmin(self._rows_of))]
            raise BadRequest("chunk.new_classes", f"class {unused!r} was announced and no row has it")


def empty_memory(kind: str, options: dict[str, str], spec: DataSpec, bases: Bases, prefix: str = "") -> Manifest:
    """A memory that has learned nothing. Raises BadRequest for an unknown kind or option, or a base that is none."""
    with values.fields_of(prefix):
        return new_manifest(kind or DEFAULT_KIND, options, spec, secrets.randbits(31), bases)


def foundation(manifest: Manifest, bases: Bases, prefix: str = "") -> Blobs:
    """What an empty memory stands on: its frozen base, if its kind has one. Raises BadRequest if that is gone."""
    with values.fields_of(prefix):
        return dict([bases.find(manifest.base, manifest.spec)]) if manifest.base else {}


def _check_type(classes: Sequence[Label], known: Sequence[Label], field: str) -> None:
    """Refuses texts where a memory has integers and the other way round."""
    if classes and known and type(classes[0]) is not type(known[0]):
        raise BadRequest(
            field, f"class {classes[0]!r} is not of the type of the memory's classes, such as {known[0]!r}; convert it"
        )


def _terms(message: pb.LearnTaskHeader) -> Terms:
    steps = message.steps if message.HasField("steps") else None
    seconds = message.seconds if message.HasField("seconds") else None
    quality = message.min_quality if message.HasField("min_quality") else None
    if steps == 0:
        raise BadRequest("header.steps", "0 steps teach nothing; give at least 1, or leave it to the recipe")
    if seconds is not None and not (isfinite(seconds) and seconds > 0):
        raise BadRequest("header.seconds", f"{seconds} is not a time; give more than 0 seconds, or leave it out")
    if quality is not None and not 0 <= quality <= 1:
        raise BadRequest("header.min_quality", f"{quality} is not in [0, 1]")
    revises = values.name(message.revises, "header.revises") if message.revises else ""
    return Terms(steps, seconds, quality, message.erasable, revises)
