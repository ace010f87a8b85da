"""A frozen base is a blob of the memory that stands on it, from the first revision to the last."""

import hashlib
import sqlite3
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from memory_server.errors import MemoryExists
from memory_server.store.datadir import DataDir
from memory_server.store.errors import CorruptBlob, MemoryNotMade
from memory_server.store.records import TaskState

BASE = b"a frozen base"
DIGEST = hashlib.sha256(BASE).hexdigest()
CONTENT = {DIGEST: BASE}


@pytest.fixture
def standing(manifest):
    return replace(manifest, options={**manifest.options, "base": DIGEST})


@pytest.fixture
def data(tmp_path):
    with DataDir(tmp_path / "data") as data:
        yield data


@pytest.fixture
def commit(data, record, learn):
    """Learns tasks, each with a blob and an expert of its own and a solver that replayed the others."""

    def commit(*names):
        for name in names:
            data.admit(record(name))
            data.commit("digits", name, learn(name, name.encode(), solver=f"solver {name}".encode(), expert=name * 32))

    return commit


def test_an_empty_memory_holds_its_base_and_counts_it(data, standing):
    record = data.create_memory("digits", standing, CONTENT)
    assert (record.manifest.revision, record.bytes) == (0, len(BASE))
    assert data.blobs[DIGEST] == BASE


def test_the_task_that_makes_a_memory_brings_its_base(data, standing, record):
    admitted, new = data.admit(record("t0"), standing, CONTENT)
    assert new and admitted.state is TaskState.QUEUED
    assert data.catalog.memory("digits").bytes == len(BASE)
    assert dict(data.blobs) == CONTENT


def test_a_base_survives_every_commit_forgetting_and_restart(tmp_path, standing, record, learn):
    with DataDir(tmp_path / "data") as data:
        data.create_memory("digits", standing, CONTENT)
        for name in ("t0", "t1", "t2"):
            data.admit(record(name))
            data.commit("digits", name, learn(name, name.encode(), solver=name.encode() * 2, expert=name * 32))
        for name in ("t2", "t0", "t1"):
            data.forget("digits", name)
            assert data.blobs[DIGEST] == BASE
    with DataDir(tmp_path / "data") as data:
        assert dict(data.blobs) == CONTENT
        assert data.catalog.memory("digits").bytes == len(BASE)


def test_every_revision_that_is_kept_stands_on_the_base(data, standing, commit):
    data.create_memory("digits", standing, CONTENT)
    commit("t0", "t1", "t2", "t3")
    assert {data.catalog.manifest("digits", revision).base for revision in range(5)} == {DIGEST}
    assert DIGEST in data.catalog.digests()


def test_a_base_goes_with_the_last_memory_that_stands_on_it(data, standing):
    for name in ("birds", "digits"):
        data.create_memory(name, standing, CONTENT)
    data.delete_memory("birds")
    assert data.blobs[DIGEST] == BASE
    data.delete_memory("digits")
    assert dict(data.blobs) == {}


def test_a_memory_that_is_refused_leaves_no_base(data, manifest, standing, record):
    data.create_memory("digits", manifest)
    with pytest.raises(MemoryExists):
        data.create_memory("digits", standing, CONTENT)
    with pytest.raises(MemoryExists):
        data.admit(record("t0"), standing, CONTENT)
    assert dict(data.blobs) == {}


def test_a_memory_that_is_refused_leaves_the_base_of_another(data, manifest, standing):
    data.create_memory("birds", standing, CONTENT)
    data.create_memory("digits", manifest)
    with pytest.raises(MemoryExists):
        data.create_memory("digits", standing, CONTENT)
    assert dict(data.blobs) == CONTENT


@pytest.mark.parametrize("fails", ["the catalog", "the blobs"])
def test_a_full_disk_makes_no_memory(data, standing, monkeypatch, record, fails):
    def full(*_):
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("database or disk is full"))

    def no_space(*_):
        raise OSError(28, "No space left on device")

    if fails == "the blobs":
        monkeypatch.setattr(data.blobs, "put", no_space)
    else:
        monkeypatch.setattr(data.catalog, "admit", full)
    with pytest.raises(MemoryNotMade, match=r"nothing could be stored: .*(full|space).*free space"):
        data.admit(record("t0"), standing, CONTENT)
    assert dict(data.blobs) == {}
    assert data.catalog.memories() == []


def test_a_base_that_was_tampered_with_is_refused_by_its_digest(data, standing):
    data.create_memory("digits", standing, CONTENT)
    path = next(data.blobs.directory.glob(f"*/{DIGEST}"))
    path.write_bytes(BASE.replace(b"frozen", b"melted"))
    with pytest.raises(CorruptBlob, match=DIGEST):
        data.blobs[standing.base]
