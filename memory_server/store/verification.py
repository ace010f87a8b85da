"""Whether the catalog adds up: what SQLite can see, and the digests that it keeps of what it says."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, func, inspect, select

from dgm_core.errors import CannotLearn
from memory_server.store import lessons, revisions
from memory_server.store.database import Database
from memory_server.store.errors import CorruptCatalog
from memory_server.store.schema import entries, memories, schema_version, shared_blobs
from memory_server.store.schema import revisions as revision_rows


@contextmanager
def reading() -> Iterator[None]:
    """Around whatever reads a catalog that may be damaged: its rows may then say anything. Raises CorruptCatalog."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, CannotLearn) as error:
        raise CorruptCatalog(f"a row cannot be read ({type(error).__name__})") from error


def version_of(database: Database) -> int | None:
    """The version of the tables that are there, None if there are none yet."""
    with database.read() as db:
        if not inspect(db).has_table(schema_version.name):
            return None
        return db.scalar(select(func.max(schema_version.c.version))) or 0


def check_catalog(database: Database) -> None:
    """Reads all of it.

    Raises:
        CorruptCatalog: the file is damaged, or a row is not what was written.
        DatabaseError: it is so damaged that SQLite cannot read it.
    """
    problems = database.problems()
    if problems:
        raise CorruptCatalog(problems[0])
    with database.read() as db:
        _check_entries(db)
        for name in revisions.names(db):
            _check_revisions(db, name)
            lessons.of_memory(db, name)


def needed_by(db: Connection, digest: str) -> str:
    """What needs a blob, in words."""
    own = select(entries.c.memory, entries.c.task).where(entries.c.blob == digest)
    uses = [f"task {task!r} of memory {memory!r}" for memory, task in db.execute(own)]
    shared = select(shared_blobs.c.memory).where(shared_blobs.c.digest == digest).distinct()
    uses += [f"the solver of memory {memory!r}" for memory in db.scalars(shared)]
    based = select(memories.c.name).where(memories.c.base == digest)
    uses += [f"the base of memory {memory!r}" for memory in db.scalars(based)]
    return " and ".join(uses)


def _check_entries(db: Connection) -> None:
    for memory, task, text, digest, blob in db.execute(
        select(entries.c.memory, entries.c.task, entries.c.entry, entries.c.digest, entries.c.blob)
    ):
        entry = revisions.parsed(text)
        if hashlib.sha256(text.encode()).hexdigest() != digest or (entry.task, entry.blob) != (task, blob):
            raise CorruptCatalog(f"the entry of task {task!r} of memory {memory!r} was changed")


def _check_revisions(db: Connection, name: str) -> None:
    own = revision_rows.c.memory == name
    for number, digest in db.execute(select(revision_rows.c.revision, revision_rows.c.digest).where(own)).all():
        manifest = revisions.revision(db, name, number)
        if revisions.digest_of(db, name, manifest) != digest:
            raise CorruptCatalog(f"revision {number} of memory {name!r} was changed")
    base = db.scalar(select(memories.c.base).where(memories.c.name == name))
    if (base or "") != revisions.existing(db, name).base:
        raise CorruptCatalog(f"the base of memory {name!r} was changed")
