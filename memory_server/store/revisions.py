"""Memories, their revisions and the blobs that these need, inside one transaction of the catalog (see `schema`)."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, exists, func, insert, select, update

from dgm_core.manifest import DataSpec, Manifest, TaskEntry
from memory_server.errors import UnknownMemory, UnknownRevision
from memory_server.store.records import MemoryRecord
from memory_server.store.schema import blobs, entries, memories, revisions, shared_blobs

Rows = Mapping[str, Mapping[str, Any]]
"""Digest of a blob -> the other columns of its row."""

_AT_ONCE = 1000  # variables of one statement; SQLite takes a few tens of thousands


def names(db: Connection) -> Sequence[str]:
    """All memories, in order."""
    return db.scalars(select(memories.c.name).order_by(memories.c.name)).all()


def newest(db: Connection, name: str) -> Manifest | None:
    """The newest revision of a memory, None if there is no such memory."""
    row = db.execute(_of(name).order_by(revisions.c.revision.desc()).limit(1)).one_or_none()
    return None if row is None else _rebuilt(db, row)


def existing(db: Connection, name: str) -> Manifest:
    """The newest revision of a memory. Raises UnknownMemory."""
    manifest = newest(db, name)
    if manifest is None:
        raise UnknownMemory(name, names(db))
    return manifest


def revision(db: Connection, name: str, number: int) -> Manifest:
    """One revision of a memory that exists. Raises UnknownRevision."""
    row = db.execute(_of(name).where(revisions.c.revision == number)).one_or_none()
    if row is None:
        raise UnknownRevision(name, number, numbers(db, name))
    return _rebuilt(db, row)


def numbers(db: Connection, name: str) -> tuple[int, ...]:
    """The revisions of a memory that are left."""
    query = select(revisions.c.revision).where(revisions.c.memory == name).order_by(revisions.c.revision)
    return tuple(db.scalars(query))


def incomplete(db: Connection) -> Sequence[str]:
    """The memories that have learned something and lack what they share, such as a solver; reads no manifest."""
    newest = select(revisions.c.memory, func.max(revisions.c.revision).label("revision"))
    of = newest.group_by(revisions.c.memory).subquery()
    learned = exists().where(entries.c.memory == of.c.memory)
    complete = exists().where(shared_blobs.c.memory == of.c.memory, shared_blobs.c.revision == of.c.revision)
    return db.scalars(select(of.c.memory).where(learned, ~complete).order_by(of.c.memory)).all()


def record(db: Connection, name: str) -> MemoryRecord:
    """A memory at its newest revision. Raises UnknownMemory."""
    manifest = existing(db, name)
    needed = blobs.c.digest.in_(_needed(name, shared_blobs.c.revision == manifest.revision))
    size = db.scalar(select(func.sum(blobs.c.bytes)).where(needed))
    created = db.scalars(select(memories.c.created_unix_ms).where(memories.c.name == name)).one()
    return MemoryRecord(name, manifest, size or 0, created)


def create(db: Connection, name: str, manifest: Manifest, rows: Rows, now: int) -> None:
    """A memory whose only revision is the given one.

    Arguments:
        rows: of the blobs that it needs, which are stored already.
        now: in milliseconds since 1970.
    """
    enter_blobs(db, rows)
    enter_memory(db, name, manifest, {entry.task: manifest.revision for entry in manifest.tasks}, now)
    add_revision(db, name, manifest, now)


def enter_memory(db: Connection, name: str, newest: Manifest, first: Mapping[str, int], now: int) -> None:
    """What the revisions of a memory consist of; its blobs must be entered already.

    Arguments:
        newest: has all its tasks.
        first: the revision that was the first to hold each of them, by name.
        now: in milliseconds since 1970.
    """
    head = {"kind": newest.kind, "options": dict(newest.options), "spec": asdict(newest.spec)}
    row = {"name": name, "base": newest.base or None, "created_unix_ms": now}
    db.execute(insert(memories).values(row | head))
    for position, entry in enumerate(newest.tasks, start=1):
        _enter_task(db, name, position, entry, first[entry.task])


def add_task(db: Connection, name: str, manifest: Manifest, rows: Rows, now: int) -> None:
    """A revision that holds one more task, its last, than the one before it; older shared blobs are let go.

    Those of the previous revision stay: a reader may be loading it.
    """
    enter_blobs(db, rows)
    last = db.scalar(select(func.max(entries.c.position)).where(entries.c.memory == name))
    _enter_task(db, name, (last or 0) + 1, manifest.tasks[-1], manifest.revision)
    add_revision(db, name, manifest, now)


def revise(db: Connection, name: str, manifest: Manifest, entries_now: Sequence[TaskEntry], rows: Rows) -> set[str]:
    """Puts entries in place of those of the same tasks, for the revision that comes next; all earlier revisions go.

    Arguments:
        manifest: the revision that comes next.

    Returns:
        The digests of the blobs that those revisions may have been the last to need.
    """
    enter_blobs(db, rows)
    of_memory = entries.c.memory == name
    older = revisions.c.memory == name, revisions.c.revision < manifest.revision
    released = set(db.scalars(select(shared_blobs.c.digest).where(shared_blobs.c.memory == name)))
    for entry in entries_now:
        own = of_memory & (entries.c.task == entry.task)
        released.update(db.scalars(select(entries.c.blob).where(own)))
        text = entry.to_json()
        db.execute(update(entries).where(own).values(entry=text, digest=_sha256(text), blob=entry.blob))
    db.execute(delete(shared_blobs).where(shared_blobs.c.memory == name))
    db.execute(delete(revisions).where(*older))
    db.execute(update(entries).where(of_memory).values(first_revision=manifest.revision))
    return released


def add_revision(db: Connection, name: str, manifest: Manifest, now: int) -> None:
    """A revision whose tasks are all entered already, and what the memory shares as of it."""
    enter_revision(db, name, manifest, now)
    for digest in set(manifest.shared.values()):
        db.execute(insert(shared_blobs).values(memory=name, revision=manifest.revision, digest=digest))


def enter_revision(db: Connection, name: str, manifest: Manifest, now: int) -> None:
    """A revision whose tasks are all entered already; what it shares need not be there any more."""
    digest = digest_of(db, name, manifest)
    row = {"memory": name, "revision": manifest.revision, "shared": dict(manifest.shared), "digest": digest}
    db.execute(insert(revisions).values(row | {"created_unix_ms": now}))


def erase_task(db: Connection, name: str, before: Manifest, task: str, now: int) -> tuple[Manifest, set[str]]:
    """A revision without a task becomes the newest, and all that held it go; what the memory shares goes from all.

    Returns:
        The new revision, and the digests of the blobs that it may have been the last to need.

    Raises:
        CannotForget: later tasks reuse what it reserved.
    """
    after = before.without(task)
    own = (entries.c.memory == name) & (entries.c.task == task)
    first, blob = db.execute(select(entries.c.first_revision, entries.c.blob).where(own)).one()
    of_memory = shared_blobs.c.memory == name
    released = {blob, *db.scalars(select(shared_blobs.c.digest).where(of_memory))}
    db.execute(delete(entries).where(own))
    db.execute(delete(shared_blobs).where(of_memory))
    db.execute(delete(revisions).where(revisions.c.memory == name, revisions.c.revision >= first))
    # The tasks that came with or after it were in none but those: now the new revision is the first that holds them.
    later = (entries.c.memory == name) & (entries.c.first_revision >= first)
    db.execute(update(entries).where(later).values(first_revision=after.revision))
    add_revision(db, name, after, now)
    return after, released


def delete_memory(db: Connection, name: str) -> set[str]:
    """Removes a memory with all that belongs to it; returns the digests of the blobs that it needed."""
    released = set(db.scalars(_needed(name)))
    db.execute(delete(memories).where(memories.c.name == name))
    return released


def drop_superseded(db: Connection, name: str, number: int) -> set[str]:
    """Lets go of what the revisions before a certain one shared; returns the digests of those blobs."""
    old = (shared_blobs.c.memory == name) & (shared_blobs.c.revision < number)
    released = set(db.scalars(select(shared_blobs.c.digest).where(old)))
    db.execute(delete(shared_blobs).where(old))
    return released


def enter_blobs(db: Connection, rows: Rows) -> None:
    """Enters blobs, which are stored already; of those that are entered, keys are replaced that were made anew."""
    for part in _parts(rows):
        known = set(db.scalars(select(blobs.c.digest).where(blobs.c.digest.in_(part))))
        new = [{"digest": digest, **rows[digest]} for digest in part if digest not in known]
        if new:
            db.execute(insert(blobs), new)
        for digest in known:
            if rows[digest]["sealed_key"] is not None:
                db.execute(update(blobs).where(blobs.c.digest == digest).values(rows[digest]))


def sizes(db: Connection, manifest: Manifest) -> tuple[tuple[str, int], ...]:
    """(digest, bytes) of each blob that a revision needs, in its order."""
    known: dict[str, int] = {}
    for part in _parts(manifest.digests):
        query = select(blobs.c.digest, blobs.c.bytes).where(blobs.c.digest.in_(part))
        known.update((digest, size) for digest, size in db.execute(query))
    return tuple((digest, known[digest]) for digest in manifest.digests)


def drop_unneeded(db: Connection, released: Iterable[str]) -> set[str]:
    """Removes those of some blobs that nothing needs any more; returns their digests."""
    needed = (
        exists().where(entries.c.blob == blobs.c.digest)
        | exists().where(shared_blobs.c.digest == blobs.c.digest)
        | exists().where(memories.c.base == blobs.c.digest)
    )
    unneeded: set[str] = set()
    for part in _parts(released):
        unneeded.update(db.scalars(select(blobs.c.digest).where(blobs.c.digest.in_(part), ~needed)))
    for part in _parts(unneeded):
        db.execute(delete(blobs).where(blobs.c.digest.in_(part)))
    return unneeded


def digest_of(db: Connection, name: str, manifest: Manifest) -> str:
    """SHA-256 of all that a revision consists of: its own facts, and the digests of its entries in their order."""
    held = db.scalars(_held(name, manifest.revision, entries.c.digest)).all()
    spec = [list(manifest.spec.shape), manifest.spec.dtype]
    facts = [manifest.kind, dict(manifest.options), spec, manifest.revision, dict(manifest.shared), [*held]]
    return _sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")))


def forget_parsed() -> None:
    """Drops from this process what was read of tasks."""
    parsed.cache_clear()


@lru_cache(maxsize=4096)
def parsed(text: str) -> TaskEntry:
    """An entry; one that was read lately is the same object: to parse a thousand takes tens of milliseconds."""
    return TaskEntry.from_json(text)


def _of(name: str) -> Select[Any]:
    head = (memories.c.name, memories.c.kind, memories.c.options, memories.c.spec)
    return select(*head, revisions.c.revision, revisions.c.shared).join(revisions).where(memories.c.name == name)


def _rebuilt(db: Connection, row: Row[Any]) -> Manifest:
    spec = DataSpec(tuple(row.spec["shape"]), row.spec["dtype"])
    texts = db.scalars(_held(row.name, row.revision, entries.c.entry))
    return Manifest(row.kind, row.options, spec, row.revision, tuple(map(parsed, texts)), row.shared)


def _enter_task(db: Connection, name: str, position: int, entry: TaskEntry, first_revision: int) -> None:
    text = entry.to_json()
    row = {"memory": name, "position": position, "task": entry.task, "first_revision": first_revision}
    db.execute(insert(entries).values(row | {"entry": text, "digest": _sha256(text), "blob": entry.blob}))


def _held(name: str, number: int, column: Any) -> Select[Any]:
    """A column of the entries that a revision has."""
    of_revision = (entries.c.memory == name) & (entries.c.first_revision <= number)
    return select(column).where(of_revision).order_by(entries.c.position)


def _needed(name: str, *shared: Any) -> Any:
    """The digests of all blobs that a memory needs, of the shared ones those that meet a condition."""
    base = select(memories.c.base).where(memories.c.name == name, memories.c.base.is_not(None))
    own = select(entries.c.blob).where(entries.c.memory == name)
    return base.union(own, select(shared_blobs.c.digest).where(shared_blobs.c.memory == name, *shared))


def _parts(digests: Iterable[str]) -> Iterator[list[str]]:
    given = list(digests)
    return (given[start : start + _AT_ONCE] for start in range(0, len(given), _AT_ONCE))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
