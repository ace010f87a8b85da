"""A memory that is imported is looked at as closely as one that is asked for: whoever wrote the file may be hostile."""

import re

from dgm_core.analysis import measured
from dgm_core.errors import CannotLearn
from dgm_core.manifest import Blobs, Manifest, TaskEntry
from dgm_core.memories import new_manifest
from dgm_core.memory import Bases
from dgm_core.style.library import Library
from memory_server.codec import answers, values
from memory_server.errors import BadRequest
from memory_server.learning.status import TaskStatus
from memory_server.store.deriving import check_experts
from memory_server.store.errors import BadArchive
from memory_server.store.records import MemoryRecord, Portable, TaskRecord, TaskState

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_REVISIONS = 2**53


def check(portable: Portable, blobs: Blobs, library: Library) -> None:
    """Sees that a memory can be served as it is: its facts, its names, and every expert to the bit.

    Arguments:
        blobs: all that it names.
        library: of bases; its own counts as known.

    Raises:
        BadArchive: it cannot.
    """
    manifest = portable.manifest
    try:
        _check_names(portable)
        bases = library.ahead(blobs[manifest.base]) if manifest.base else library
        _check_options(manifest, bases)
        _check_wire(portable)
        check_experts(manifest, blobs)
    except BadArchive:
        raise
    except (BadRequest, CannotLearn) as error:
        raise BadArchive(str(error)) from error
    except Exception as error:  # what is in a hostile file fails anywhere, in any way
        raise BadArchive(f"its content is not what its manifest says ({type(error).__name__})") from error


def _check_names(portable: Portable) -> None:
    manifest = portable.manifest
    names = [values.name(entry.task, "manifest.tasks") for entry in manifest.tasks]
    _require(len(set(names)) == len(names), "two of its tasks have one name")
    known = sorted(record.task for record in portable.tasks)
    _require(set(known) <= set(names) and len(set(known)) == len(known), "its records are not those of its tasks")
    _require(0 <= manifest.revision < _MOST_REVISIONS, "its revision is out of range")
    digests = [*manifest.digests, *(expert.digest for _, expert in manifest.experts())]
    _require(all(map(_DIGEST.fullmatch, digests)), "what should be a digest is none")
    for entry in manifest.tasks:
        _check_entry(entry)
    for record in portable.tasks:
        _check_record(record)
    values.check_labels(manifest.classes, "manifest.tasks.classes")


def _check_entry(entry: TaskEntry) -> None:
    measured(entry.analysis)
    _require(0 <= entry.quality <= 1 and entry.steps >= 0 and entry.seconds >= 0, "a figure is out of range")
    for expert in entry.experts:
        values.check_labels(expert.classes, "experts.classes")
        _require(len(expert.classes) == len(expert.examples) > 0, "an expert has other counts than classes")
        _require(all(count >= 0 for count in expert.examples), "a figure is out of range")


def _check_record(record: TaskRecord) -> None:
    values.check_labels(record.classes, "tasks.classes")
    _require(record.state is TaskState.LEARNED, f"task {record.task} was not learned")
    numbers = (record.count, record.steps, record.learn_seconds, record.created_unix_ms, record.finished_unix_ms)
    _require(all(number >= 0 for number in numbers), "a figure is out of range")


def _check_options(manifest: Manifest, bases: Bases) -> None:
    """The options are all of those that this kind has, and valid for such data."""
    empty = new_manifest(manifest.kind, dict(manifest.options), manifest.spec, manifest.seed, bases)
    _require(empty.options == manifest.options, "its options are not those of its kind")


def _check_wire(portable: Portable) -> None:
    """All that is told of it can be told."""
    answers.analysed_memory(MemoryRecord("imported", portable.manifest, 0, 0))
    for record in portable.tasks:
        answers.task(TaskStatus(record))


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise BadArchive(otherwise)
