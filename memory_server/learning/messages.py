"""What server and worker tell each other, as frames."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from dgm_core.errors import Cancelled, CannotLearn, CannotSleep, QualityTooLow, TrainingDiverged
from dgm_core.manifest import Label, Learned, Manifest, Shared, TaskEntry
from dgm_core.memory import Progress, Terms
from memory_server.faults import frames_of
from memory_server.learning.errors import Interrupted, LearningFailed, OutOfMemory
from memory_server.learning.frames import Frame
from memory_server.store.blobs import BlobStore
from memory_server.store.checkpoints import Slot
from memory_server.store.errors import CorruptBlob
from memory_server.store.sealing import SealingKey

_CPU_EXHAUSTED = "DefaultCPUAllocator: can't allocate memory"  # torch raises a RuntimeError where CUDA has a class


class Renewal(StrEnum):
    """How what a whole memory shares is made anew."""

    SOLVER = "restoring"
    SLEEP = "sleeping"


@dataclass(frozen=True)
class Job:
    """One task to learn.

    Arguments:
        manifest: the revision to learn upon.
        task: its name.
        classes: its labels, which y indexes.
        count: rows of data.
        terms: what it may take.
        slot: where its training is put down; None: nowhere.
    """

    manifest: Manifest
    task: str
    classes: tuple[Label, ...]
    count: int
    terms: Terms
    slot: Slot | None = None


@dataclass(frozen=True)
class Place:
    """Where a local worker finds what it needs.

    Arguments:
        blobs: directory of the blob store, which it only reads.
        device: as torch names it.
        threads: for torch on the CPU.
        gate: the inherited memory of a `Gate`.
        share: of the device that learning keeps at that gate.
        keys: of the blobs, in hexadecimal by digest; None where nothing is encrypted.
    """

    blobs: str
    device: str
    threads: int
    gate: int
    share: float
    keys: Mapping[str, str] | None = field(default=None, repr=False)

    def store(self) -> BlobStore:
        """The blobs."""
        keys = self.keys
        found = None if keys is None else {digest: SealingKey.from_text(keys[digest]) for digest in keys}
        return BlobStore(Path(self.blobs), found)


@dataclass(frozen=True)
class Inherited:
    """The memfds that a local worker inherits: x in the dtype of the memory, y int32."""

    x_fd: int
    y_fd: int


def job_frame(job: Job, place: Place, data: Inherited) -> Frame:
    """Server to worker, once: a task to learn."""
    body: dict[str, Any] = {
        "manifest": job.manifest.to_json(),
        "task": job.task,
        "classes": job.classes,
        "count": job.count,
    }
    body["slot"] = None if job.slot is None else asdict(job.slot)
    return Frame("job", body | {"terms": asdict(job.terms), "place": asdict(place), "data": asdict(data)})


def read_job(frame: Frame) -> tuple[Job, Place, Inherited]:
    """The inverse of `job_frame`."""
    raw = frame.body
    manifest = Manifest.from_json(raw["manifest"])
    slot = None if raw["slot"] is None else Slot(**raw["slot"])
    job = Job(manifest, raw["task"], tuple(raw["classes"]), raw["count"], Terms(**raw["terms"]), slot)
    return job, Place(**raw["place"]), Inherited(**raw["data"])


def renewing_frame(how: Renewal, manifest: Manifest, place: Place) -> Frame:
    """Server to worker, once: a memory of which what it shares is to be made anew, and how."""
    return Frame(how.value, {"manifest": manifest.to_json(), "place": asdict(place)})


def read_renewing(frame: Frame) -> tuple[Manifest, Place]:
    """The inverse of `renewing_frame`, but for how."""
    return Manifest.from_json(frame.body["manifest"]), Place(**frame.body["place"])


def ending_frame() -> Frame:
    """Server to worker, once at most: put down the training where it is, and end."""
    return Frame("ending")


def progress_frame(progress: Progress) -> Frame:
    """Worker to server, any number of times."""
    return Frame("progress", {**asdict(progress), "metrics": dict(progress.metrics)})


def read_progress(frame: Frame) -> Progress:
    """The inverse of `progress_frame`."""
    return Progress(**frame.body)


def alive_frame() -> Frame:
    """Worker to server, any number of times: it is at work, though there is no progress to report."""
    return Frame("alive")


def learned_frame(manifest: Manifest, learned: Learned) -> Frame:
    """Worker to server, last: the new part of the manifest as text, the blobs as payloads."""
    added = replace(manifest, tasks=(learned.entry, *learned.revised), shared=learned.shared, revision=learned.revision)
    return Frame("learned", {"added": added.to_json(), "digests": list(learned.blobs)}, tuple(learned.blobs.values()))


def read_learned(frame: Frame) -> Learned:
    """The inverse of `learned_frame`."""
    added = Manifest.from_json(frame.body["added"])
    blobs = dict(zip(frame.body["digests"], frame.payloads, strict=True))
    entry, *revised = added.tasks
    return Learned(entry, added.shared, blobs, added.revision, tuple(revised))


def renewed_frame(shared: Shared) -> Frame:
    """Worker to server, last: what was made anew, the blobs as payloads."""
    revised = [entry.to_json() for entry in shared.revised]
    body = {"shared": dict(shared.digests), "digests": list(shared.blobs), "revised": revised}
    return Frame("renewed", body, tuple(shared.blobs.values()))


def read_renewed(frame: Frame) -> Shared:
    """The inverse of `renewed_frame`."""
    blobs = dict(zip(frame.body["digests"], frame.payloads, strict=True))
    return Shared(frame.body["shared"], blobs, tuple(map(TaskEntry.from_json, frame.body["revised"])))


def error_frame(error: Exception) -> Frame:
    """Worker to server, last: the class and message of what went wrong, and where. Only foreseen ones are repeated."""
    told = {"kind": type(error).__name__, "message": str(error), "frames": frames_of(error)}
    if isinstance(error, CannotLearn):
        told["field"] = error.field
    if isinstance(error, CorruptBlob):
        told["path"] = str(error.path)
    return Frame("error", told)


def read_error(frame: Frame) -> Exception:
    """The exception that an `error_frame` tells of, to be raised in the server."""
    kind, message = frame.body["kind"], frame.body["message"]
    if kind == CannotLearn.__name__:
        return CannotLearn(frame.body["field"], message)
    if kind in ("MemoryError", "OutOfMemoryError") or _CPU_EXHAUSTED in message:
        return OutOfMemory()
    if kind == CorruptBlob.__name__:
        return CorruptBlob(frame.body["path"])
    if kind == Cancelled.__name__:
        return Interrupted()
    for known in (QualityTooLow, TrainingDiverged, CannotSleep):
        if kind == known.__name__:
            return known(message)
    return LearningFailed(kind, frame.body["frames"])
