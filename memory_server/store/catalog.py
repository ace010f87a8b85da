"""The catalog: the single source of truth. Its transaction is the commit of a task."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import RowMapping

from dgm_core.manifest import Blobs, Learned, Manifest, Shared
from memory_server.errors import MemoryExists, TaskExists, TaskUnfinished, UnknownMemory, UnknownRevision, UnknownTask
from memory_server.store.errors import NewerFormat
from memory_server.store.records import Census, Committed, Forgotten, MemoryRecord, TaskRecord, TaskState
from memory_server.store.schema import (
    VERSION,
    blobs,
    memories,
    metadata,
    revision_blobs,
    revisions,
    schema_version,
    tasks,
)

INTERRUPTED = "the server stopped before this task was learned and its data is gone; send it again"

Clock = Callable[[], float]
"""Seconds since 1970."""

_NOTHING: Blobs = {}


class Catalog:
    """Memories, revisions, tasks and which blobs they need, in one SQLite file.

    Every method is one transaction, may be called from any thread, and blocks for a disk sync when it writes.

    Arguments:
        path: the database file; made with mode 0600 if it is not there.
        clock: the present time.

    Raises:
        NewerFormat: the file was written by a newer server.
    """

    def __init__(self, path: Path, clock: Clock = time.time) -> None:
        self._clock = clock
        path.touch(mode=0o600)
        self._engine = _engine(path)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    # Memories and revisions

    def create_memory(self, name: str, manifest: Manifest, content: Blobs = _NOTHING) -> MemoryRecord:
        """A new memory at revision 0. Raises MemoryExists if the name is taken.

        Arguments:
            content: what `manifest.digests` name, such as a frozen base; must be stored already.
        """
        with self._write() as db:
            if _newest(db, name) is not None:
                raise _taken(name)
            self._create(db, name, manifest, content)
            return _memory(db, name)

    def memory(self, name: str) -> MemoryRecord:
        """One memory at its newest revision. Raises UnknownMemory."""
        with self._read() as db:
            return _memory(db, name)

    def memories(self) -> list[MemoryRecord]:
        """All memories, by name."""
        with self._read() as db:
            return [_memory(db, name) for name in _names(db)]

    def manifest(self, name: str, revision: int | None = None) -> Manifest:
        """One revision of a memory, the newest by default. Raises UnknownMemory, UnknownRevision."""
        with self._read() as db:
            newest = _existing(db, name)
            return newest if revision in (None, newest.revision) else _revision(db, name, revision or 0)

    def delete_memory(self, name: str) -> set[str]:
        """Removes a memory with its revisions and tasks; returns the digests that nothing refers to any more."""
        with self._write() as db:
            _existing(db, name)
            db.execute(delete(memories).where(memories.c.name == name))
            unused = _drop_unreferenced(db)
        self._scrub()
        return unused

    def digests(self) -> set[str]:
        """Every blob that something refers to."""
        with self._read() as db:
            return set(db.scalars(select(blobs.c.digest)))

    def census(self, most: int) -> Census:
        """How much there is, and of up to `most` memories when each learned last; reads no manifest."""
        latest = func.max(tasks.c.finished_unix_ms).label("latest")
        learned = select(tasks.c.memory, latest).where(tasks.c.state == TaskState.LEARNED.value)
        by_memory = learned.group_by(tasks.c.memory).order_by(latest.desc()).limit(most)
        with self._read() as db:
            held = db.scalar(select(func.count()).select_from(memories)) or 0
            number, size = db.execute(select(func.count(), func.coalesce(func.sum(blobs.c.bytes), 0))).one()
            return Census(held, number, size, {row.memory: row.latest for row in db.execute(by_memory)})

    def incomplete(self) -> Sequence[str]:
        """Memories that have learned something and lack what they share, such as a solver; reads no manifest."""
        newest = select(revisions.c.memory, func.max(revisions.c.revision).label("revision"))
        of = newest.group_by(revisions.c.memory).subquery()
        at_newest = (revision_blobs.c.memory == of.c.memory) & (revision_blobs.c.revision == of.c.revision)
        learned = exists().where(tasks.c.memory == of.c.memory, tasks.c.state == TaskState.LEARNED.value)
        lacking = ~exists().where(at_newest, revision_blobs.c.shared)
        with self._read() as db:
            return db.scalars(select(of.c.memory).where(learned, lacking).order_by(of.c.memory)).all()

    # Tasks

    def admit(
        self, record: TaskRecord, manifest_if_new: Manifest | None = None, content: Blobs = _NOTHING
    ) -> tuple[TaskRecord, bool]:
        """Queues a task, or finds the one that is there; says which: (task, whether it was admitted now).

        Arguments:
            record: names, classes, count and digest of the task; the rest is set here.
            manifest_if_new: creates the memory if there is none.
            content: what that manifest's digests name; must be stored already.

        Raises:
            UnknownMemory: there is no such memory and no manifest to make it.
            MemoryExists: the memory was made meanwhile and is not what `manifest_if_new` describes (seed aside).
            TaskExists: a task of that name was or is being learned with other data.
        """
        with self._write() as db:
            self._ensure_memory(db, record.memory, manifest_if_new, content)
            present = _find_task(db, record.memory, record.task)
            if present is not None and not present.state.retryable:
                return _same_data(present, record), False
            return self._queue(db, record), True

    def task(self, memory: str, task: str) -> TaskRecord:
        """One task. Raises UnknownMemory, UnknownTask."""
        with self._read() as db:
            _existing(db, memory)
            return _task(db, memory, task)

    def tasks(self, memory: str) -> list[TaskRecord]:
        """The tasks of a memory in the order of admission. Raises UnknownMemory."""
        with self._read() as db:
            _existing(db, memory)
            query = select(tasks).where(tasks.c.memory == memory).order_by(tasks.c.position)
            return [_task_record(row) for row in db.execute(query).mappings()]

    def set_state(
        self, memory: str, task: str, state: TaskState, error: str = "", error_reason: str = ""
    ) -> TaskRecord:
        """Moves a task to another state; a final one is stamped with the time. A LEARNED task stays as it is.

        Raises:
            UnknownMemory, UnknownTask.
        """
        columns = {"state": state.value, "error": error, "error_reason": error_reason}
        finished = self._now() if state.final else 0
        with self._write() as db:
            _existing(db, memory)
            record = _task(db, memory, task)
            if record.state is TaskState.LEARNED:
                return record
            return _update_task(db, memory, task, **columns, finished_unix_ms=finished)

    def commit(self, memory: str, task: str, learned: Learned) -> Committed:
        """Makes the next revision visible and the task LEARNED, both or neither.

        The blobs of `learned` must be stored already. Shared blobs two revisions old are let go.

        Raises:
            UnknownMemory, UnknownTask: it was deleted meanwhile.
        """
        with self._write() as db:
            manifest = _existing(db, memory).commit(learned)
            _task(db, memory, task)
            self._add_revision(db, memory, manifest, _sizes(learned.blobs))
            _forget_superseded(db, memory, manifest.revision)
            record = _update_task(db, memory, task, **_learned_columns(learned, manifest.revision, self._now()))
            return Committed(manifest, record, frozenset(_drop_unreferenced(db)))

    def forget(self, memory: str, task: str) -> Forgotten:
        """Makes a revision without a task the newest, and removes its record and every revision that holds it.

        No blob that the memory shares, such as a solver, stays in any revision: it may have replayed the task. A task
        that FAILED or was CANCELLED is in no revision: only its record goes.

        Raises:
            UnknownMemory, UnknownTask.
            TaskUnfinished: it is not in a final state.
            CannotForget: later tasks reuse what it reserved.
        """
        with self._write() as db:
            before = _existing(db, memory)
            record = _task(db, memory, task)
            if not record.state.final:
                raise TaskUnfinished(f"task {task!r} of memory {memory!r} is {record.state}; cancel it, or wait for it")
            after = self._erase(db, memory, before, task) if record.state is TaskState.LEARNED else before
            db.execute(delete(tasks).where(tasks.c.memory == memory, tasks.c.task == task))
            unused = frozenset(_drop_unreferenced(db))
            forgotten = Forgotten(after, _revisions(db, memory), unused, _experts(before) - _all_experts(db))
        self._scrub()
        return forgotten

    def restore(self, memory: str, shared: Shared) -> Manifest:
        """Makes a revision visible that has what the memory shares made anew; its blobs must be stored already.

        Raises:
            UnknownMemory: it was deleted meanwhile.
        """
        with self._write() as db:
            manifest = _existing(db, memory).restored(shared)
            self._add_revision(db, memory, manifest, _sizes(shared.blobs))
            return manifest

    def fail_interrupted(self) -> int:
        """Fails the tasks that a stopped server left in flight; returns how many there were."""
        final = [state.value for state in TaskState if state.final]
        values = {"state": TaskState.FAILED.value, "error": INTERRUPTED, "finished_unix_ms": self._now()}
        with self._write() as db:
            return db.execute(update(tasks).where(tasks.c.state.not_in(final)).values(values)).rowcount

    # Inside one transaction

    def _prepare(self) -> None:
        with self._write() as db:
            if not inspect(db).has_table(schema_version.name):
                metadata.create_all(db)
                db.execute(insert(schema_version).values(version=VERSION))
            found = db.scalar(select(func.max(schema_version.c.version))) or 0
            if found > VERSION:
                raise NewerFormat(found, VERSION)

    def _create(self, db: Connection, name: str, manifest: Manifest, content: Blobs) -> None:
        db.execute(insert(memories).values(name=name, created_unix_ms=self._now()))
        self._add_revision(db, name, manifest, _sizes(content))

    def _ensure_memory(self, db: Connection, name: str, manifest: Manifest | None, content: Blobs) -> None:
        newest = _newest(db, name)
        if newest is None and manifest is not None:
            self._create(db, name, manifest, content)
        elif newest is None:
            raise UnknownMemory(name, _names(db))
        elif manifest is not None and _nature(newest) != _nature(manifest):
            raise _taken(name)

    def _add_revision(self, db: Connection, name: str, manifest: Manifest, sizes: dict[str, int]) -> None:
        row = {"memory": name, "revision": manifest.revision}
        db.execute(insert(revisions).values(row | {"manifest": manifest.to_json(), "created_unix_ms": self._now()}))
        known = set(db.scalars(select(blobs.c.digest).where(blobs.c.digest.in_(sizes))))
        _insert_all(db, blobs, [{"digest": key, "bytes": sizes[key]} for key in sizes if key not in known])
        kept = {manifest.base, *(task.blob for task in manifest.tasks)}
        uses = [row | {"digest": digest, "shared": digest not in kept} for digest in manifest.digests]
        _insert_all(db, revision_blobs, uses)

    def _queue(self, db: Connection, record: TaskRecord) -> TaskRecord:
        key = (tasks.c.memory == record.memory) & (tasks.c.task == record.task)
        db.execute(delete(tasks).where(key))
        last = db.scalar(select(func.max(tasks.c.position)).where(tasks.c.memory == record.memory))
        queued = replace(record, state=TaskState.QUEUED, created_unix_ms=self._now())
        db.execute(insert(tasks).values(asdict(queued) | {"position": (last or 0) + 1}))
        return queued

    def _erase(self, db: Connection, memory: str, manifest: Manifest, task: str) -> Manifest:
        after = manifest.without(task)
        of_memory = revisions.c.memory == memory
        texts = db.execute(select(revisions.c.revision, revisions.c.manifest).where(of_memory)).all()
        holding = [revision for revision, text in texts if _holds(Manifest.from_json(text), task)]
        db.execute(delete(revisions).where(of_memory, revisions.c.revision.in_(holding)))
        db.execute(delete(revision_blobs).where(revision_blobs.c.memory == memory, revision_blobs.c.shared))
        self._add_revision(db, memory, after, {})
        orphaned = (tasks.c.memory == memory) & tasks.c.revision.in_(holding)
        db.execute(update(tasks).where(orphaned).values(revision=after.revision))  # the first that holds them now
        return after

    def _scrub(self) -> None:
        """Empties the write-ahead log, in which deleted rows can still be read; readers may put it off a little."""
        _parsed.cache_clear()
        with suppress(sqlite3.Error), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()

    def _now(self) -> int:
        return round(self._clock() * 1000)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._engine.connect() as db, db.begin():
            yield db

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        # Taking the write lock first keeps two transactions from reading the same state and then both changing it.
        with self._engine.connect().execution_options(immediate=True) as db, db.begin():
            yield db


def _engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # sqlite3 must not begin transactions of its own
        # What is deleted is overwritten with zeros, not just marked as free: names and digests of erased tasks go, too.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(db: Connection) -> None:
        db.exec_driver_sql("BEGIN IMMEDIATE" if db.get_execution_options().get("immediate") else "BEGIN")

    return engine


def _nature(manifest: Manifest) -> tuple[object, ...]:
    """What two descriptions of one memory must agree on; a seed that nobody named is drawn at random."""
    options = {key: value for key, value in manifest.options.items() if key != "seed"}
    return manifest.kind, options, manifest.spec


def _taken(name: str) -> MemoryExists:
    return MemoryExists(f"another memory is named {name!r} already; choose another name, or delete that one first")


@lru_cache(maxsize=16)
def _parsed(text: str) -> Manifest:
    """A manifest; one that was read lately is the same object: to read a thousand tasks takes tens of milliseconds."""
    return Manifest.from_json(text)


def _names(db: Connection) -> Sequence[str]:
    return db.scalars(select(memories.c.name).order_by(memories.c.name)).all()


def _newest(db: Connection, name: str) -> Manifest | None:
    query = (
        select(revisions.c.manifest).where(revisions.c.memory == name).order_by(revisions.c.revision.desc()).limit(1)
    )
    text = db.scalar(query)
    return None if text is None else _parsed(text)


def _existing(db: Connection, name: str) -> Manifest:
    manifest = _newest(db, name)
    if manifest is None:
        raise UnknownMemory(name, _names(db))
    return manifest


def _revision(db: Connection, name: str, revision: int) -> Manifest:
    of_memory = revisions.c.memory == name
    text = db.scalar(select(revisions.c.manifest).where(of_memory, revisions.c.revision == revision))
    if text is None:
        raise UnknownRevision(name, revision, _revisions(db, name))
    return _parsed(text)


def _revisions(db: Connection, name: str) -> tuple[int, ...]:
    query = select(revisions.c.revision).where(revisions.c.memory == name).order_by(revisions.c.revision)
    return tuple(db.scalars(query))


def _holds(manifest: Manifest, task: str) -> bool:
    return any(entry.task == task for entry in manifest.tasks)


def _experts(manifest: Manifest) -> frozenset[str]:
    return frozenset(expert.digest for _, expert in manifest.experts())


def _all_experts(db: Connection) -> frozenset[str]:
    return frozenset().union(*(_experts(_existing(db, name)) for name in _names(db)))


def _sizes(content: Blobs) -> dict[str, int]:
    return {digest: len(each) for digest, each in content.items()}


def _memory(db: Connection, name: str) -> MemoryRecord:
    manifest = _existing(db, name)
    needed = select(func.sum(blobs.c.bytes)).join(revision_blobs, revision_blobs.c.digest == blobs.c.digest)
    size = db.scalar(needed.where(revision_blobs.c.memory == name, revision_blobs.c.revision == manifest.revision))
    created = db.scalars(select(memories.c.created_unix_ms).where(memories.c.name == name)).one()
    return MemoryRecord(name, manifest, size or 0, created)


def _find_task(db: Connection, memory: str, task: str) -> TaskRecord | None:
    query = select(tasks).where(tasks.c.memory == memory, tasks.c.task == task)
    row = db.execute(query).mappings().one_or_none()
    return None if row is None else _task_record(row)


def _task(db: Connection, memory: str, task: str) -> TaskRecord:
    record = _find_task(db, memory, task)
    if record is None:
        known = select(tasks.c.task).where(tasks.c.memory == memory).order_by(tasks.c.position)
        raise UnknownTask(memory, task, db.scalars(known))
    return record


def _task_record(row: RowMapping) -> TaskRecord:
    columns = {key: value for key, value in row.items() if key != "position"}
    return TaskRecord(**{**columns, "state": TaskState(row["state"]), "classes": tuple(row["classes"])})


def _update_task(db: Connection, memory: str, task: str, **columns: object) -> TaskRecord:
    db.execute(update(tasks).where(tasks.c.memory == memory, tasks.c.task == task).values(**columns))
    return _task(db, memory, task)


def _same_data(present: TaskRecord, wanted: TaskRecord) -> TaskRecord:
    if (present.count, present.digest) != (wanted.count, wanted.digest):
        raise TaskExists(
            f"memory {present.memory!r} has a task {present.task!r} with other data; choose another task name"
        )
    return present


def _learned_columns(learned: Learned, revision: int, now: int) -> dict[str, object]:
    entry = learned.entry
    return {
        "state": TaskState.LEARNED.value,
        "quality": entry.quality,
        "steps": entry.steps,
        "learn_seconds": entry.seconds,
        "revision": revision,
        "finished_unix_ms": now,
    }


def _forget_superseded(db: Connection, name: str, revision: int) -> None:
    """Shared blobs stay for one more revision: a reader may be loading the previous one."""
    old = (revision_blobs.c.memory == name) & (revision_blobs.c.revision < revision - 1)
    db.execute(delete(revision_blobs).where(old, revision_blobs.c.shared))


def _drop_unreferenced(db: Connection) -> set[str]:
    unused = set(db.scalars(select(blobs.c.digest).where(blobs.c.digest.not_in(select(revision_blobs.c.digest)))))
    db.execute(delete(blobs).where(blobs.c.digest.not_in(select(revision_blobs.c.digest))))
    return unused


def _insert_all(db: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        db.execute(insert(table), rows)
