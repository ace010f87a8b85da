"""A data directory, owned by one server at a time: `LOCK`, `catalog.sqlite`, `blobs/`, and the operator's `bases/`."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import structlog
from sqlalchemy.exc import DatabaseError

from dgm_core.manifest import Blobs, Learned, Manifest, Shared
from memory_server.errors import Broken
from memory_server.secrecy import keep_private
from memory_server.store.arrival import Arrival
from memory_server.store.blobs import BlobStore, sync_directory
from memory_server.store.catalog import Catalog, Clock
from memory_server.store.errors import (
    CommitFailed,
    CorruptCatalog,
    DataDirError,
    LostBlob,
    MemoryNotMade,
    NewerFormat,
    NotDeleted,
    NotForgotten,
    NotImported,
    NotMigrated,
    NotRecorded,
    SolverNotStored,
    of_the_disk,
    reason,
    written,
)
from memory_server.store.lock import take_lock
from memory_server.store.records import (
    Committed,
    Deleted,
    Forgotten,
    MemoryRecord,
    Portable,
    Restored,
    TaskRecord,
    TaskState,
)
from memory_server.store.sealing import SealingKey

BASES = "bases"
"""The folder of a data directory where an operator's own bases lie."""

CATALOG = "catalog.sqlite"

QUARANTINE = "quarantine"
"""The folder where blobs are put aside that were damaged when a server started."""

ARRIVALS = "arrivals"
"""The folder where memories wait that are being imported."""

_NOTHING: Blobs = {}
_BACKUP = "restore it from a backup"
_ELSEWHERE = "or choose another directory with --data-dir"
_DISK = "free space on the disk or mend it, and start again: nothing is lost"


class DataDir:
    """All that the server keeps. Opening one fails what was in flight when the last server stopped and removes debris.

    Arguments:
        path: the directory; made with mode 0700 if it is not there, and given it if others may use it.
        clock: the present time.
        master: the key that encrypts its blobs; None for a plain directory.

    Raises:
        DataDirError: it cannot be used: not writable, in use by another server, of a newer format, encrypted by another
            key, or damaged.
    """

    def __init__(self, path: Path, clock: Clock = time.time, master: SealingKey | None = None) -> None:
        self.path = path
        self._lock = take_lock(path)
        # Blobs appear before and vanish after their rows in the catalog; between the two nobody else may look.
        self._changing = threading.Lock()
        self._undeletable: set[str] = set()  # blobs that nobody needed but that the disk would not let go
        try:
            keep_private(path)
            self.catalog = _catalog(path / CATALOG, clock, master)
            self.blobs = BlobStore(path / "blobs", self.catalog.keys)
            with written(self._not_in_order):
                self._recover()
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def existing(cls, path: Path, master: SealingKey | None) -> Self:
        """A directory that is there already. Raises DataDirError."""
        if not (path / CATALOG).is_file():
            raise DataDirError(f"{path} is no data directory: it has no {CATALOG}; name another with --data-dir")
        return cls(path, master=master)

    def create_memory(self, name: str, manifest: Manifest, content: Blobs = _NOTHING) -> MemoryRecord:
        """Makes a memory at revision 0 and stores what it stands on, such as a frozen base.

        Arguments:
            content: what `manifest.digests` name.

        Raises:
            MemoryExists: the name is taken.
            MemoryNotMade: the disk is full or fails.
        """
        with self._changing, self._stored(content, MemoryNotMade):
            return self.catalog.create_memory(name, manifest, content)

    def arrival(self) -> Arrival:
        """Where a memory that is imported waits until it is whole; see `Arrival.keep`."""
        return Arrival(self.path / ARRIVALS, self.blobs, self.adopt)

    def adopt(self, name: str, portable: Portable, staged: BlobStore) -> MemoryRecord:
        """Makes a memory of what an arrival has brought.

        Raises:
            MemoryExists: the name is taken.
            NotImported: the disk is full or fails.
        """
        with self._changing, self._undone([digest for digest, _ in portable.blobs], NotImported):
            self.blobs.adopt(staged)
            return self.catalog.import_memory(name, portable)

    def admit(
        self, record: TaskRecord, manifest_if_new: Manifest | None = None, content: Blobs = _NOTHING
    ) -> tuple[TaskRecord, bool]:
        """Queues a task, or finds the one that is there, and makes its memory if there is none (see `Catalog.admit`).

        Raises:
            UnknownMemory, MemoryExists, TaskExists: as `Catalog.admit` does.
            MemoryNotMade: the disk is full or fails.
            LostBlob: a blob that the memory needs is not to be had.
        """
        with self._changing, self._stored(content, MemoryNotMade):
            if self.blobs.lost and manifest_if_new is None:
                self.check_whole(record.memory)
            return self.catalog.admit(record, manifest_if_new, content)

    def check_whole(self, memory: str) -> None:
        """Sees that all blobs of a memory are to be had, but for its solver. Raises UnknownMemory, LostBlob."""
        manifest = self.catalog.manifest(memory)
        for digest in {manifest.base, *(entry.blob for entry in manifest.tasks)} & self.blobs.lost:
            raise LostBlob(digest)

    def commit(self, memory: str, task: str, learned: Learned) -> Committed:
        """Stores what a task left behind: afterwards the next revision holds it and the task is LEARNED.

        What that revision does not name is never written, such as a solver that others have overtaken meanwhile.

        Raises:
            CommitFailed: the disk is full or fails; the memory is as it was.
            UnknownMemory, UnknownTask: it was deleted meanwhile.
        """
        with self._changing:
            named = self.catalog.manifest(memory).commit(learned).digests
            kept = replace(learned, blobs={key: learned.blobs[key] for key in learned.blobs if key in named})
            with self._stored(kept.blobs, CommitFailed):
                committed = self.catalog.commit(memory, task, kept)
            self._remove(committed.unused)
            return committed

    def restore(self, memory: str, revision: int, shared: Shared) -> Restored | None:
        """Stores what a memory shares, made anew from a revision: the next one, which this tells of, is complete.

        None, and nothing is stored, if that revision is no longer the newest.

        Raises:
            SolverNotStored: the disk is full or fails; the memory is as it was.
            UnknownMemory: it was deleted meanwhile.
        """
        with self._changing:
            if self.catalog.manifest(memory).revision != revision:
                return None
            with self._stored(shared.blobs, SolverNotStored):
                restored = self.catalog.restore(memory, shared)
            self._remove(restored.unused)
            return restored

    def forget(self, memory: str, task: str) -> Forgotten:
        """Erases a task (see `Catalog.forget`), then every blob that nothing else needs.

        Should the server be killed in between, or the disk not let a blob go (which the answer says), the next one that
        opens this directory removes those blobs.

        Raises:
            NotForgotten: the disk is full or fails; the memory is as it was.
            UnknownMemory, UnknownTask, TaskUnfinished, CannotForget: as `Catalog.forget` does.
        """
        with self._changing:
            with written(NotForgotten):
                forgotten = self.catalog.forget(memory, task)
            return replace(forgotten, undeleted=self._remove(forgotten.unused))

    def delete_memory(self, name: str) -> Deleted:
        """Removes a memory and every blob that no other needs.

        Raises:
            NotDeleted: the disk is full or fails; the memory is as it was.
            UnknownMemory.
        """
        with self._changing:
            with written(NotDeleted):
                deleted = self.catalog.delete_memory(name)
            return replace(deleted, undeleted=self._remove(deleted.unused))

    def set_state(
        self, memory: str, task: str, state: TaskState, error: str = "", error_reason: str = ""
    ) -> TaskRecord:
        """Moves a task to another state (see `Catalog.set_state`).

        Raises:
            NotRecorded: the disk is full or fails; the state is what it was.
            UnknownMemory, UnknownTask.
        """
        with written(NotRecorded):
            return self.catalog.set_state(memory, task, state, error, error_reason)

    def close(self) -> None:
        """Closes the catalog and releases the directory to the next server."""
        self.catalog.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _not_in_order(self, why: object) -> DataDirError:
        return DataDirError(
            f"what the last server left in {self.path} cannot be put in order ({why}); mend the disk or free space on "
            f"it, {_ELSEWHERE}"
        )

    def _recover(self) -> None:
        self.catalog.fail_interrupted()
        self.catalog.scrub()  # a server may have been killed between deleting and scrubbing
        shutil.rmtree(self.path / ARRIVALS, ignore_errors=True)
        self.blobs.remove_unfinished()
        if why := self._remove(self.blobs.orphans(self.catalog.digests())):
            raise self._not_in_order(why)
        for digest in sorted(self.catalog.digests()):
            if not self.blobs.sound(digest):
                self._lose(digest)
        sync_directory(self.path)

    def _lose(self, digest: str) -> None:
        """Puts a damaged blob aside: what needs it fails, and says so, all else goes on."""
        self.blobs.move(digest, self.path / QUARANTINE)
        self.blobs.lost.add(digest)
        needed_by = self.catalog.needed_by(digest)
        structlog.get_logger().error("a blob is damaged or missing", digest=digest, needed_by=needed_by)

    def _remove(self, digests: Collection[str]) -> str:
        """Removes blobs, those that were put aside as well: they go with what needed them.

        What the disk does not let go is tried again whenever anything is removed. Returns why; empty if all is gone.
        """
        failures = {}
        for digest in {*digests, *self._due()}:
            try:
                self.blobs.delete([digest])
                for aside in (self.path / QUARANTINE).glob(f"{digest}*"):
                    aside.unlink(missing_ok=True)
            except OSError as error:
                failures[digest] = str(reason(error))
        self._undeletable = set(failures)
        if failures:
            structlog.get_logger().error("blobs that nothing needs cannot be removed", reasons=failures)
        return next(iter(failures.values()), "")

    def _due(self) -> set[str]:
        """What could not be removed before, and is not needed again."""
        return self._undeletable - self.catalog.digests() if self._undeletable else set()

    @contextmanager
    def _stored(self, blobs: Blobs, failed: Callable[[object], Broken]) -> Iterator[None]:
        """Stores blobs before the block tells the catalog of them; if that fails, those that nobody needs go again."""
        with self._undone(blobs, failed):
            for content in blobs.values():
                self.blobs.put(content)
            yield

    @contextmanager
    def _undone(self, digests: Collection[str], failed: Callable[[object], Broken]) -> Iterator[None]:
        """If the block fails, those of some blobs go that nobody needs."""
        try:
            with written(failed):
                yield
        except BaseException:
            with suppress(OSError, DatabaseError):
                self._remove_orphans(digests)
            raise
        finally:
            if self.catalog.keys is not None:
                self.catalog.keys.settle()

    def _remove_orphans(self, candidates: Iterable[str]) -> None:
        self._remove(set(candidates) - self.catalog.digests())


def _catalog(path: Path, clock: Clock, master: SealingKey | None) -> Catalog:
    try:
        return Catalog(path, clock, master)
    except CorruptCatalog as error:
        raise DataDirError(f"the catalog {path} is damaged ({error}); {_BACKUP}, {_ELSEWHERE}") from error
    except (NewerFormat, NotMigrated) as error:
        raise DataDirError(f"{path.parent}: {error}, {_ELSEWHERE}") from error
    except (OSError, DatabaseError) as error:
        fix = _DISK if of_the_disk(error) else _BACKUP
        raise DataDirError(f"the catalog {path} cannot be opened ({reason(error)}); {fix}, {_ELSEWHERE}") from error
