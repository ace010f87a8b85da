"""Directories of older formats."""

import hashlib
import json
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy.exc import OperationalError

from dgm_core.manifest import DataSpec, ExpertEntry, Learned, Manifest, TaskEntry
from memory_server.errors import UnknownRevision
from memory_server.store import migration
from memory_server.store.datadir import DataDir
from memory_server.store.errors import DataDirError
from memory_server.store.records import TaskRecord

VERSION_1 = """
CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE memories (name VARCHAR NOT NULL, created_unix_ms BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE blobs (digest VARCHAR(64) NOT NULL, bytes BIGINT NOT NULL, PRIMARY KEY (digest));
CREATE TABLE revisions (
    memory VARCHAR NOT NULL, revision INTEGER NOT NULL, manifest TEXT NOT NULL, created_unix_ms BIGINT NOT NULL,
    PRIMARY KEY (memory, revision), FOREIGN KEY(memory) REFERENCES memories (name) ON DELETE CASCADE);
CREATE TABLE tasks (
    memory VARCHAR NOT NULL, task VARCHAR NOT NULL, position INTEGER NOT NULL, state VARCHAR NOT NULL,
    classes JSON NOT NULL, count BIGINT NOT NULL, digest VARCHAR NOT NULL, error TEXT NOT NULL,
    error_reason VARCHAR NOT NULL, quality FLOAT, steps BIGINT NOT NULL, learn_seconds FLOAT NOT NULL,
    revision INTEGER NOT NULL, created_unix_ms BIGINT NOT NULL, finished_unix_ms BIGINT NOT NULL,
    PRIMARY KEY (memory, task), FOREIGN KEY(memory) REFERENCES memories (name) ON DELETE CASCADE);
CREATE TABLE revision_blobs (
    memory VARCHAR NOT NULL, revision INTEGER NOT NULL, digest VARCHAR(64) NOT NULL, shared BOOLEAN NOT NULL,
    PRIMARY KEY (memory, revision, digest),
    FOREIGN KEY(memory, revision) REFERENCES revisions (memory, revision) ON DELETE CASCADE,
    FOREIGN KEY(digest) REFERENCES blobs (digest));
CREATE INDEX ix_revision_blobs_digest ON revision_blobs (digest);
INSERT INTO schema_version VALUES (1);
"""
SOLVERS = [f"solver {revision}".encode() for revision in range(6)]
BASE = b"base"


def digest(content):
    return hashlib.sha256(content).hexdigest()


ANALYSIS = {
    "gate": "unit",
    "order": ["in"],
    "layers": {"in": {"size": 3, "reserved": 2, "reused": 0, "free": 1}},
    "trajectory": [{"step": 1, "slope": 0.0, "occupancy": {"in": 0.5}}],
    "parameters": 9,
    "worst_case": 9,
    "bytes": {"weights": 4, "masks": 1, "own": 2},
}


def entry(task):
    experts = (ExpertEntry(digest(task.encode() * 2), (0, "cat"), (5, 6)),)
    return TaskEntry(task, digest(task.encode()), experts, 0.9, 10, 1.5, analysis=ANALYSIS)


@pytest.fixture
def history():
    """Revisions of a memory that learned t0, t1 and t2, forgot t1 and made its solver anew: 2 and 3 are gone."""
    empty = Manifest("gan_memory", {"seed": "7", "base": digest(BASE)}, DataSpec((1, 8, 8), "uint8"))
    told = [empty]
    for task in ("t0", "t1", "t2"):
        solver = {"solver": digest(SOLVERS[told[-1].revision + 1])}
        told.append(told[-1].commit(Learned(entry(task), solver, {}, told[-1].revision)))
    told.append(told[-1].without("t1"))
    told.append(told[-1].commit(Learned(entry("t3"), {"solver": digest(SOLVERS[5])}, {}, 4)))
    return [manifest for manifest in told if manifest.revision not in (2, 3)]


@pytest.fixture
def path(tmp_path, history):
    """A data directory as version 1 left it."""
    blobs = [BASE, b"t0", b"t2", b"t3", SOLVERS[5]]
    with DataDir(tmp_path) as data:
        for content in blobs:
            data.blobs.put(content)
    (tmp_path / "catalog.sqlite").unlink()
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as db, db:
        db.executescript(VERSION_1)
        db.execute("INSERT INTO memories VALUES ('digits', 1000)")
        db.executemany("INSERT INTO blobs VALUES (?, ?)", [(digest(blob), len(blob)) for blob in blobs])
        for manifest in history:
            row = ("digits", manifest.revision, manifest.to_json(), 1000 + manifest.revision)
            db.execute("INSERT INTO revisions VALUES (?, ?, ?, ?)", row)
            kept = [(blob, False) for blob in {manifest.base, *(task.blob for task in manifest.tasks)}]
            shared = [(digest(SOLVERS[5]), True)] if manifest.revision == 5 else []
            uses = [("digits", manifest.revision, *each) for each in kept + shared]
            db.executemany("INSERT INTO revision_blobs VALUES (?, ?, ?, ?)", uses)
        for position, (task, revision) in enumerate([("t0", 1), ("t2", 4), ("t3", 5), ("failed", 0)], start=1):
            state = "LEARNED" if revision else "FAILED"
            row = ("digits", task, position, state, json.dumps([0, "cat"]), 11, "d", "", "", 0.9, 10, 1.5, revision)
            db.execute(f"INSERT INTO tasks VALUES ({', '.join('?' * 15)})", (*row, 1001, 1002))
    (tmp_path / "catalog.sqlite").chmod(0o600)
    return tmp_path


def test_a_directory_of_version_1_is_the_same_to_its_users(path, history):
    with DataDir(path) as data:
        for manifest in history:
            found = data.catalog.manifest("digits", manifest.revision)
            assert found.to_json() == manifest.to_json()
        with pytest.raises(UnknownRevision, match="0, 1, 4, 5"):
            data.catalog.manifest("digits", 3)
        assert set(data.blobs.values()) == {BASE, b"t0", b"t2", b"t3", SOLVERS[5]}
        assert data.catalog.memory("digits").bytes == sum(map(len, data.blobs.values()))
        assert data.catalog.memory("digits").created_unix_ms == 1000
        assert [(task.task, task.revision, task.classes) for task in data.catalog.tasks("digits")] == [
            *(("t0", 1, (0, "cat")), ("t2", 4, (0, "cat")), ("t3", 5, (0, "cat")), ("failed", 0, (0, "cat")))
        ]


def test_a_migrated_memory_learns_and_forgets_as_any(path):
    with DataDir(path) as data:
        data.catalog.admit(TaskRecord("digits", "t4", (0,), 1, "d"))
        solver = {"solver": digest(b"newer")}
        contents = {digest(content): content for content in (b"t4", b"newer")}
        data.commit("digits", "t4", Learned(entry("t4"), solver, contents, 5))
        forgotten = data.forget("digits", "t2")
        assert forgotten.revisions == (0, 1, 7)
        assert [task.task for task in forgotten.manifest.tasks] == ["t0", "t3", "t4"]
        assert set(data.blobs.values()) == {BASE, b"t0", b"t3", b"t4"}
        data.delete_memory("digits")
        assert len(data.blobs) == 0


def test_a_migration_leaves_no_copy_and_is_done_once(path, monkeypatch):
    copies, upgrade = [], migration._upgrade

    def look(db):
        copies.append(migration.backup_path(path / "catalog.sqlite").stat())
        upgrade(db)

    monkeypatch.setattr(migration, "_upgrade", look)
    for _ in range(2):
        DataDir(path).close()
    assert [copy.st_mode & 0o777 for copy in copies] == [0o600]
    assert sorted(found.name for found in path.iterdir()) == ["LOCK", "blobs", "catalog.sqlite"]


FULL = OperationalError("", None, sqlite3.OperationalError("disk full"))


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()])
def test_a_migration_that_breaks_off_leaves_the_catalog_as_it_was_and_a_copy(path, history, monkeypatch, error):
    def breaks_off(*_):
        raise error

    with monkeypatch.context() as patch, pytest.raises((DataDirError, KeyboardInterrupt)):
        patch.setattr(migration, "_insert", breaks_off)
        DataDir(path)
    for catalog in (path / "catalog.sqlite", migration.backup_path(path / "catalog.sqlite")):
        with closing(sqlite3.connect(catalog)) as db:
            assert db.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
            assert len(db.execute("SELECT manifest FROM revisions").fetchall()) == len(history)
    with DataDir(path) as data:
        assert data.catalog.manifest("digits") == history[-1]
    assert not migration.backup_path(path / "catalog.sqlite").exists()


def test_revisions_that_contradict_each_other_are_not_migrated(path, history):
    other = Manifest.from_json(history[1].to_json().replace('"cat"', '"dog"'))
    with closing(sqlite3.connect(path / "catalog.sqlite")) as db, db:
        db.execute("UPDATE revisions SET manifest = ? WHERE revision = 1", (other.to_json(),))
    with pytest.raises(DataDirError, match=r"revision 1 of memory 'digits' contradicts revision 4.*backup"):
        DataDir(path)
