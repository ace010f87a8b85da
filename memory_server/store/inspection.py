"""A look at a data directory that no server holds; it changes nothing."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from dgm_core.memories import KINDS
from memory_server.store.blobs import BlobStore
from memory_server.store.catalog import Catalog
from memory_server.store.database import Database
from memory_server.store.datadir import ARRIVALS, BASES, CATALOG, QUARANTINE
from memory_server.store.deriving import check_experts
from memory_server.store.errors import CorruptCatalog, DataDirError, NewerFormat, of_the_disk, reason
from memory_server.store.lock import take_lock
from memory_server.store.schema import VERSION
from memory_server.store.sealing import SealingKey
from memory_server.store.verification import reading, version_of

_BACKUP = "restore it from a backup"
_DISK = "free space on the disk or mend it, and check again: nothing is lost"
_CLEARED = "the next start removes it"


@dataclass(frozen=True)
class Finding:
    """Something that is not as a server leaves it.

    Arguments:
        what: "catalog", "memory", "blob", "expert", "orphan", "unfinished", "quarantined" or "permissions".
        name: of the file, or of what is concerned.
        problem: what is wrong with it.
        advice: what to do.
        harmless: whether memories are all right with it.
    """

    what: str
    name: str
    problem: str
    advice: str
    harmless: bool = False


def inspect(path: Path, master: SealingKey | None, deep: bool) -> list[Finding]:
    """All that is wrong with a data directory.

    Arguments:
        master: its key; None for a plain directory.
        deep: derives every expert, too, and compares digests: seconds for tens of tasks.

    Raises:
        DataDirError: it is none, a server holds it, or it needs another key.
    """
    if not (path / CATALOG).is_file():
        raise DataDirError(f"{path} is no data directory: it has no {CATALOG}; name another with --data-dir")
    lock = take_lock(path)
    try:
        return [*_permissions(path), *_content(path, master, deep)]
    finally:
        os.close(lock)


def _content(path: Path, master: SealingKey | None, deep: bool) -> Iterator[Finding]:
    file = path / CATALOG
    try:
        with closing(Database(file)) as database, reading():
            version = version_of(database)
        if version is None:
            yield Finding("catalog", file.name, "it is empty", _BACKUP)
            return
        if version < VERSION:
            yield Finding("catalog", file.name, f"it has format {version}", "the next start migrates it", harmless=True)
            return
        catalog = Catalog(file, master=master)
    except (CorruptCatalog, NewerFormat, DatabaseError, OSError) as error:
        yield Finding("catalog", file.name, str(reason(error)), _DISK if of_the_disk(error) else _BACKUP)
        return
    with closing(catalog):
        blobs = BlobStore(path / "blobs", catalog.keys)
        yield from _kinds(catalog)
        yield from _blobs(catalog, blobs)
        yield from _debris(path, catalog, blobs)
        if deep:
            yield from _experts(catalog, blobs)


def _kinds(catalog: Catalog) -> Iterator[Finding]:
    for name, kind in sorted(catalog.kinds().items()):
        if kind not in KINDS:
            problem = f"it is of kind {kind!r}, which this version does not have"
            yield Finding("memory", name, problem, "run the version that made it, or delete the memory")


def _blobs(catalog: Catalog, blobs: BlobStore) -> Iterator[Finding]:
    for digest in sorted(catalog.digests()):
        if not blobs.sound(digest):
            problem = f"it is {'damaged' if digest in blobs else 'missing'}, and {catalog.needed_by(digest)} needs it"
            yield Finding("blob", digest, problem, f"{_BACKUP}, or forget that task or delete the memory")


def _debris(path: Path, catalog: Catalog, blobs: BlobStore) -> Iterator[Finding]:
    for digest in sorted(blobs.orphans(catalog.digests())):
        yield Finding("orphan", digest, "nothing needs it", _CLEARED, harmless=True)
    for file in sorted([*blobs.unfinished(), *(path / ARRIVALS).glob("*")]):
        yield Finding("unfinished", str(file.relative_to(path)), "it was never finished", _CLEARED, harmless=True)
    for file in sorted((path / QUARANTINE).glob("*")):
        advice = "it goes with the task or memory that needs it"
        yield Finding("quarantined", file.name, "it was damaged when a server started", advice, harmless=True)


def _experts(catalog: Catalog, blobs: BlobStore) -> Iterator[Finding]:
    for memory in (each for each in catalog.memories() if each.manifest.kind in KINDS):
        try:
            check_experts(memory.manifest, blobs)
        except Exception as error:  # whatever is wrong with it
            problem = f"what is derived is not what was learned ({error})"
            yield Finding("expert", memory.name, problem, f"restore its blobs from a backup, or delete {memory.name!r}")


def _permissions(path: Path) -> Iterator[Finding]:
    """Files that others may read; the operator's own bases are no secret."""
    for file in sorted([path, *path.rglob("*")]):
        try:
            mode = file.stat().st_mode & 0o777
        except FileNotFoundError:  # SQLite's own, which go with its last connection
            continue
        if mode & 0o077 and (path / BASES) not in (file, *file.parents):
            name = str(file.relative_to(path.parent))
            yield Finding("permissions", name, f"others may use it (mode {mode:04o})", f"chmod go= {file}")
