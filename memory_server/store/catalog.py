"""The catalog: the single source of truth. Its transaction is the commit of a task."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, func, insert, select

from dgm_core.manifest import Blobs, Learned, Manifest, Shared
from memory_server.errors import MemoryExists, TaskExists, TaskUnfinished, UnknownMemory
from memory_server.store import lessons, revisions
from memory_server.store.database import Database
from memory_server.store.errors import NewerFormat
from memory_server.store.keyring import Keyring, encrypt, reseal, unlock
from memory_server.store.migration import migrate
from memory_server.store.records import (
    Census,
    Committed,
    Deleted,
    Forgotten,
    MemoryRecord,
    Portable,
    Restored,
    TaskRecord,
    TaskState,
)
from memory_server.store.schema import VERSION, blobs, memories, metadata, schema_version, tasks
from memory_server.store.sealing import SealingKey
from memory_server.store.verification import check_catalog, needed_by, reading, version_of

INTERRUPTED = "the server stopped before this task was learned and its data is gone; send it again"
INTERRUPTED_REASON = "TASK_INTERRUPTED"

Clock = Callable[[], float]
"""Seconds since 1970."""

_NOTHING: Blobs = {}


class Catalog:
    """Memories, revisions, tasks and which blobs they need, in one SQLite file.

    Every method is one transaction, may be called from any thread, and blocks for a disk sync when it writes.

    Arguments:
        path: the database file; made with mode 0600 if it is not there, migrated if an older server wrote it.
        clock: the present time.
        master: encrypts the directory, if it is new; must be the one that did, if it is not.

    Attributes:
        keys: of the blobs; None in a plain directory.

    Raises:
        WrongKey: the directory needs another key, or none.
        NewerFormat: the file was written by a newer server.
        NotMigrated: it was written by an older one, and does not add up.
        CorruptCatalog: it is damaged.
    """

    def __init__(self, path: Path, clock: Clock = time.time, master: SealingKey | None = None) -> None:
        self._clock = clock
        self._database = Database(path)
        self.keys = None if master is None else Keyring(self._database, master)
        try:
            with reading():
                self._prepare(master)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes every connection."""
        self._database.close()

    # Memories and revisions

    def create_memory(self, name: str, manifest: Manifest, content: Blobs = _NOTHING) -> MemoryRecord:
        """A new memory at one revision. Raises MemoryExists if the name is taken.

        Arguments:
            content: what `manifest.digests` name, such as a frozen base; must be stored already.
        """
        return self.import_memory(name, Portable(manifest, (), tuple(_sizes(content).items())))

    def import_memory(self, name: str, portable: Portable) -> MemoryRecord:
        """A new memory as another catalog knew it; its blobs must be stored already. Raises MemoryExists."""
        manifest = portable.manifest
        with self._database.write() as db:
            if revisions.newest(db, name) is not None:
                raise _taken(name)
            revisions.create(db, name, manifest, self._rows(dict(portable.blobs)), self._now())
            for record in portable.tasks:
                lessons.add(db, replace(record, memory=name, revision=manifest.revision))
            return revisions.record(db, name)

    def export_memory(self, name: str) -> Portable:
        """The newest revision of a memory with the records of its tasks. Raises UnknownMemory."""
        with self._database.read() as db:
            manifest = revisions.existing(db, name)
            learned = tuple(task for task in lessons.of_memory(db, name) if task.state is TaskState.LEARNED)
            return Portable(manifest, learned, revisions.sizes(db, manifest))

    def memory(self, name: str) -> MemoryRecord:
        """One memory at its newest revision. Raises UnknownMemory."""
        with self._database.read() as db:
            return revisions.record(db, name)

    def memories(self) -> list[MemoryRecord]:
        """All memories, by name."""
        with self._database.read() as db:
            return [revisions.record(db, name) for name in revisions.names(db)]

    def manifest(self, name: str, revision: int | None = None) -> Manifest:
        """One revision of a memory, the newest by default. Raises UnknownMemory, UnknownRevision."""
        with self._database.read() as db:
            newest = revisions.existing(db, name)
            return newest if revision in (None, newest.revision) else revisions.revision(db, name, revision or 0)

    def delete_memory(self, name: str) -> Deleted:
        """Removes a memory with its revisions and tasks. Raises UnknownMemory."""
        with self._database.write() as db:
            held = _experts(revisions.existing(db, name))
            unused = revisions.drop_unneeded(db, revisions.delete_memory(db, name))
            deleted = Deleted(frozenset(unused), held - _all_experts(db), tuple(revisions.names(db)))
        self.scrub()
        return deleted

    def digests(self) -> set[str]:
        """Every blob that something refers to."""
        with self._database.read() as db:
            return set(db.scalars(select(blobs.c.digest)))

    def census(self, most: int) -> Census:
        """How much there is, and of up to `most` memories when each learned last; reads no manifest."""
        latest = func.max(tasks.c.finished_unix_ms).label("latest")
        learned = select(tasks.c.memory, latest).where(tasks.c.state == TaskState.LEARNED.value)
        by_memory = learned.group_by(tasks.c.memory).order_by(latest.desc()).limit(most)
        with self._database.read() as db:
            held = db.scalar(select(func.count()).select_from(memories)) or 0
            number, size = db.execute(select(func.count(), func.coalesce(func.sum(blobs.c.bytes), 0))).one()
            return Census(held, number, size, {row.memory: row.latest for row in db.execute(by_memory)})

    def newest(self, kinds: Sequence[str]) -> dict[str, Manifest]:
        """The newest revision of each memory of some kinds, by name."""
        of_kinds = select(memories.c.name).where(memories.c.kind.in_(kinds)).order_by(memories.c.name)
        with self._database.read() as db:
            return {name: revisions.existing(db, name) for name in db.scalars(of_kinds)}

    def kinds(self) -> dict[str, str]:
        """The kind of each memory, by name; reads no manifest."""
        with self._database.read() as db:
            return {row.name: row.kind for row in db.execute(select(memories.c.name, memories.c.kind))}

    def incomplete(self) -> Sequence[str]:
        """Memories that have learned something and lack what they share, such as a solver; reads no manifest."""
        with self._database.read() as db:
            return revisions.incomplete(db)

    def needed_by(self, digest: str) -> str:
        """What needs a blob, in words."""
        with self._database.read() as db:
            return needed_by(db, digest)

    def change_key(self, old: SealingKey, new: SealingKey) -> int:
        """Has another master key seal the data keys; returns how many there are. No other may use the catalog now."""
        with self._database.write() as db:
            count = reseal(db, old, new)
        self._database.scrub()
        return count

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
        with self._database.write() as db:
            self._ensure_memory(db, record.memory, manifest_if_new, content)
            present = lessons.find(db, record.memory, record.task)
            if present is not None and not present.state.retryable:
                return _same_data(present, record), False
            queued = replace(record, state=TaskState.QUEUED, created_unix_ms=self._now())
            lessons.add(db, queued)
            return queued, True

    def task(self, memory: str, task: str) -> TaskRecord:
        """One task. Raises UnknownMemory, UnknownTask."""
        with self._database.read() as db:
            revisions.existing(db, memory)
            return lessons.existing(db, memory, task)

    def tasks(self, memory: str) -> list[TaskRecord]:
        """The tasks of a memory in the order of admission. Raises UnknownMemory."""
        with self._database.read() as db:
            revisions.existing(db, memory)
            return lessons.of_memory(db, memory)

    def set_state(
        self, memory: str, task: str, state: TaskState, error: str = "", error_reason: str = ""
    ) -> TaskRecord:
        """Moves a task to another state; a final one is stamped with the time. A LEARNED task stays as it is.

        Raises:
            UnknownMemory, UnknownTask.
        """
        columns = {"state": state.value, "error": error, "error_reason": error_reason}
        finished = self._now() if state.final else 0
        with self._database.write() as db:
            revisions.existing(db, memory)
            record = lessons.existing(db, memory, task)
            if record.state is TaskState.LEARNED:
                return record
            return lessons.change(db, memory, task, **columns, finished_unix_ms=finished)

    def failed(self, reasons: Iterable[str]) -> list[tuple[str, str]]:
        """The tasks that FAILED for one of some reasons, as (memory, task)."""
        state = tasks.c.state == TaskState.FAILED.value
        query = select(tasks.c.memory, tasks.c.task).where(state & tasks.c.error_reason.in_(list(reasons)))
        with self._database.read() as db:
            return [(row.memory, row.task) for row in db.execute(query)]

    def commit(self, memory: str, task: str, learned: Learned) -> Committed:
        """Makes the next revision visible and the task LEARNED, both or neither.

        The blobs of `learned` must be stored already. Shared blobs two revisions old are let go.

        Raises:
            UnknownMemory, UnknownTask: it was deleted meanwhile.
        """
        with self._database.write() as db:
            before = revisions.existing(db, memory)
            manifest = before.commit(learned)
            lessons.existing(db, memory, task)
            released = self._revise(db, memory, manifest, learned)
            revisions.add_task(db, memory, manifest, self._rows(_sizes(learned.blobs)), self._now())
            released |= revisions.drop_superseded(db, memory, manifest.revision - 1)  # a reader may be loading that one
            record = lessons.learn(db, memory, task, learned.entry, manifest.revision, self._now())
            unused = frozenset(revisions.drop_unneeded(db, released))
            gone = _gone(db, memory, before, manifest, unused) if learned.revised else None
            return Committed(manifest, unused, gone, task=record)

    def forget(self, memory: str, task: str) -> Forgotten:
        """Makes a revision without a task the newest, and removes its record and every revision that holds it.

        No blob that the memory shares, such as a solver, stays in any revision: it may have replayed the task. A task
        that FAILED or was CANCELLED is in no revision: only its record goes.

        Raises:
            UnknownMemory, UnknownTask.
            TaskUnfinished: it is not in a final state.
            CannotForget: later tasks reuse what it reserved.
        """
        with self._database.write() as db:
            before = after = revisions.existing(db, memory)
            record, released = lessons.existing(db, memory, task), set[str]()
            if not record.state.final:
                raise TaskUnfinished(f"task {task!r} of memory {memory!r} is {record.state}; cancel it, or wait for it")
            if record.state is TaskState.LEARNED:
                after, released = revisions.erase_task(db, memory, before, task, self._now())
                lessons.moved(db, memory, since=record.revision, revision=after.revision)
            lessons.remove(db, memory, task)
            forgotten = _gone(db, memory, before, after, frozenset(revisions.drop_unneeded(db, released)))
        self.scrub()
        return forgotten

    def restore(self, memory: str, shared: Shared) -> Restored:
        """Makes a revision visible that has what the memory shares made anew; its blobs must be stored already.

        Raises:
            UnknownMemory: it was deleted meanwhile.
        """
        with self._database.write() as db:
            before = revisions.existing(db, memory)
            manifest = before.restored(shared)
            released = self._revise(db, memory, manifest, shared)
            revisions.enter_blobs(db, self._rows(_sizes(shared.blobs)))
            revisions.add_revision(db, memory, manifest, self._now())
            unused = frozenset(revisions.drop_unneeded(db, released))
            gone = _gone(db, memory, before, manifest, unused) if shared.revised else None
            return Restored(manifest, unused, gone)

    def fail_interrupted(self) -> int:
        """Fails the tasks that a stopped server left in flight; returns how many there were."""
        with self._database.write() as db:
            return lessons.fail_unfinished(db, INTERRUPTED, INTERRUPTED_REASON, self._now())

    def scrub(self) -> None:
        """Leaves nothing readable of what was deleted, neither in memory nor in the write-ahead log."""
        revisions.forget_parsed()
        self._database.scrub()

    def _prepare(self, master: SealingKey | None) -> None:
        found = version_of(self._database)
        if found is None:
            with self._database.write() as db:
                metadata.create_all(db)
                db.execute(insert(schema_version).values(version=VERSION))
                if master is not None:
                    encrypt(db, master)
        elif found > VERSION:
            raise NewerFormat(found, VERSION)
        elif found < VERSION:
            migrate(self._database)
        with self._database.read() as db:
            unlock(db, self._database.path.parent, master)
        check_catalog(self._database)

    def _ensure_memory(self, db: Connection, name: str, manifest: Manifest | None, content: Blobs) -> None:
        newest = revisions.newest(db, name)
        if newest is None and manifest is not None:
            revisions.create(db, name, manifest, self._rows(_sizes(content)), self._now())
        elif newest is None:
            raise UnknownMemory(name, revisions.names(db))
        elif manifest is not None and _nature(newest) != _nature(manifest):
            raise _taken(name)

    def _revise(self, db: Connection, memory: str, manifest: Manifest, new: Learned | Shared) -> set[str]:
        """Puts the entries of earlier tasks in place that a revision has revised, if any; see `revisions.revise`."""
        if not new.revised:
            return set()
        released = revisions.revise(db, memory, manifest, new.revised, self._rows(_sizes(new.blobs)))
        lessons.moved(db, memory, since=0, revision=manifest.revision)
        return released

    def _rows(self, sizes: dict[str, int]) -> revisions.Rows:
        seal = (lambda _: None) if self.keys is None else self.keys.sealed
        return {digest: {"bytes": size, "sealed_key": seal(digest)} for digest, size in sizes.items()}

    def _now(self) -> int:
        return round(self._clock() * 1000)


def _nature(manifest: Manifest) -> tuple[object, ...]:
    """What two descriptions of one memory must agree on; a seed that nobody named is drawn at random."""
    options = {key: value for key, value in manifest.options.items() if key != "seed"}
    return manifest.kind, options, manifest.spec


def _taken(name: str) -> MemoryExists:
    return MemoryExists(f"another memory is named {name!r} already; choose another name, or delete that one first")


def _gone(db: Connection, memory: str, before: Manifest, after: Manifest, unused: frozenset[str]) -> Forgotten:
    return Forgotten(after, revisions.numbers(db, memory), unused, _experts(before) - _all_experts(db))


def _experts(manifest: Manifest) -> frozenset[str]:
    return frozenset(expert.digest for _, expert in manifest.experts())


def _all_experts(db: Connection) -> frozenset[str]:
    return frozenset().union(*(_experts(revisions.existing(db, name)) for name in revisions.names(db)))


def _sizes(content: Blobs) -> dict[str, int]:
    return {digest: len(each) for digest, each in content.items()}


def _same_data(present: TaskRecord, wanted: TaskRecord) -> TaskRecord:
    if (present.count, present.digest) != (wanted.count, wanted.digest):
        raise TaskExists(
            f"memory {present.memory!r} has a task {present.task!r} with other data; choose another task name"
        )
    return present
