"""From the tables of an older server to those of this one, in one transaction.

Version 1 kept the whole manifest of every revision as text, and a row per revision and blob.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, insert, text

from dgm_core.manifest import Manifest
from memory_server.store import revisions
from memory_server.store.blobs import sync_directory
from memory_server.store.database import Database
from memory_server.store.errors import NotMigrated
from memory_server.store.schema import VERSION, blobs, metadata, schema_version, shared_blobs, tasks


def migrate(database: Database) -> None:
    """Brings a database of version 1 to `VERSION`: wholly, or it stays as it is.

    A copy of what was there lies beside it until that is durable. It does not stay: it would keep what is forgotten.

    Raises:
        NotMigrated: its revisions contradict each other.
        OSError, DatabaseError: the disk is full or fails.
    """
    copy = backup_path(database.path)
    database.copy_to(copy)
    sync_directory(copy.parent)
    with database.write() as db:
        _upgrade(db)
    copy.unlink()
    database.compact()


def backup_path(catalog: Path) -> Path:
    """Where the copy of a catalog of version 1 lies while it is migrated."""
    return catalog.with_name(f"{catalog.name}.version-1")


@dataclass(frozen=True)
class _Old:
    """A memory of version 1: its newest manifest, the revision that first held each task, and all its revisions.

    `steps` are (revision as it was less its tasks, creation in milliseconds since 1970), oldest first.
    """

    name: str
    created: int
    newest: Manifest
    first: dict[str, int]
    steps: list[tuple[Manifest, int]]


def _upgrade(db: Connection) -> None:
    old = [_read(db, *row) for row in db.execute(text("SELECT name, created_unix_ms FROM memories"))]
    kept_blobs = _rows(db, "SELECT digest, bytes FROM blobs")
    shared = _rows(db, "SELECT memory, revision, digest FROM revision_blobs WHERE shared")
    kept_tasks = [{**row, "classes": json.loads(row["classes"])} for row in _rows(db, "SELECT * FROM tasks")]
    _drop_all(db)
    metadata.create_all(db)
    db.execute(insert(schema_version).values(version=VERSION))
    _insert(db, blobs, kept_blobs)
    for memory in old:
        revisions.enter_memory(db, memory.name, memory.newest, memory.first, memory.created)
        for manifest, created in memory.steps:
            revisions.enter_revision(db, memory.name, manifest, created)
    _insert(db, shared_blobs, shared)
    _insert(db, tasks, kept_tasks)


def _read(db: Connection, name: str, created: int) -> _Old:
    newest: Manifest | None = None
    above: Manifest | None = None
    first: dict[str, int] = {}
    steps: list[tuple[Manifest, int]] = []
    for manifest, at in _descending(db, name):
        _check(name, manifest, above or manifest)
        newest, above = newest or manifest, manifest
        first |= {entry.task: manifest.revision for entry in manifest.tasks}
        steps.insert(0, (replace(manifest, tasks=()), at))
    if newest is None:
        raise NotMigrated(f"memory {name!r} has no revision")
    return _Old(name, created, newest, first, steps)


def _descending(db: Connection, name: str) -> Iterator[tuple[Manifest, int]]:
    query = text("SELECT manifest, created_unix_ms FROM revisions WHERE memory = :name ORDER BY revision DESC")
    for manifest, created in db.execute(query, {"name": name}):
        yield Manifest.from_json(manifest), created


def _check(name: str, manifest: Manifest, above: Manifest) -> None:
    """A revision has the same facts as the one after it, and some of its tasks in the same order."""
    held = {entry.task for entry in manifest.tasks}
    expected = replace(manifest, **{field: getattr(above, field) for field in ("kind", "options", "spec")})
    expected = replace(expected, tasks=tuple(entry for entry in above.tasks if entry.task in held))
    if manifest != expected:
        raise NotMigrated(f"revision {manifest.revision} of memory {name!r} contradicts revision {above.revision}")


def _drop_all(db: Connection) -> None:
    present = MetaData()
    present.reflect(db)
    present.drop_all(db)


def _rows(db: Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in db.execute(text(query)).mappings()]


def _insert(db: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        db.execute(insert(table), rows)
