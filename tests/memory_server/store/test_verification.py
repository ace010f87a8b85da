"""What a server finds on its disk when it starts."""

import hashlib
import random
import sqlite3
from contextlib import closing

import pytest

from memory_server.store.archive import pieces
from memory_server.store.datadir import DataDir
from memory_server.store.errors import DataDirError, LostBlob
from memory_server.store.sealing import SealingKey

MASTER = SealingKey.new()


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(params=[None, MASTER], ids=["plain", "encrypted"])
def master(request):
    return request.param


@pytest.fixture
def teach(manifest, record, learn):
    def teach(path, master=None):
        """Two memories, digits with tasks t0 and t1 and birds with b0."""
        with DataDir(path, master=master) as data:
            for memory, task in (("digits", "t0"), ("digits", "t1"), ("birds", "b0")):
                data.admit(record(task, memory=memory), manifest)
                revision = data.catalog.manifest(memory).revision
                data.commit(memory, task, learn(task, task.encode() * 9, memory.encode() * 9, revision=revision))
        return path

    return teach


def file_of(path, content):
    return path / "blobs" / digest(content)[:2] / digest(content)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_blob_is_put_aside_and_concerns_its_memory_alone(tmp_path, teach, master, record, damage):
    blob = file_of(teach(tmp_path, master), b"t1" * 9)
    content = blob.read_bytes()
    if damage == "gone":
        blob.unlink()
    else:
        blob.write_bytes(content[:-1] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])
    for _ in range(2):  # the next start finds the same
        with DataDir(tmp_path, master=master) as data:
            with pytest.raises(LostBlob, match=r"from a backup.*or the task is forgotten.*or the memory is deleted"):
                data.blobs[blob.name]
            assert data.catalog.needed_by(blob.name) == "task 't1' of memory 'digits'"
            with pytest.raises(LostBlob):
                list(pieces(data.catalog.export_memory("digits"), data.blobs))
            with pytest.raises(LostBlob):
                data.admit(record("t2"))
            assert data.blobs[digest(b"t0" * 9)] == b"t0" * 9
            assert data.admit(record("b1", memory="birds"))[1]
            assert b"".join(pieces(data.catalog.export_memory("birds"), data.blobs))
    aside = [path.name for path in tmp_path.glob("quarantine/*")]
    assert aside == ([] if damage == "gone" else [blob.name])


def test_a_blob_that_is_restored_from_a_backup_is_as_before(tmp_path, teach, master):
    blob = file_of(teach(tmp_path, master), b"t1" * 9)
    content = blob.read_bytes()
    blob.write_bytes(b"damaged")
    DataDir(tmp_path, master=master).close()
    blob.write_bytes(content)
    with DataDir(tmp_path, master=master) as data:
        assert data.blobs[blob.name] == b"t1" * 9
        assert [path.read_bytes() for path in tmp_path.glob("quarantine/*")] == [b"damaged"]


@pytest.mark.parametrize("act", ["forget", "delete"])
def test_what_was_put_aside_goes_with_what_needed_it(tmp_path, teach, master, act, record):
    blob = file_of(teach(tmp_path, master), b"t1" * 9)
    blob.write_bytes(b"damaged")
    with DataDir(tmp_path, master=master) as data:
        assert [path.name for path in tmp_path.glob("quarantine/*")] == [blob.name]
        data.forget("digits", "t1") if act == "forget" else data.delete_memory("digits")
        assert list(tmp_path.glob("quarantine/*")) == []
        if act == "forget":
            assert data.admit(record("t2"))[1]


def test_a_damaged_blob_is_whole_again_once_it_is_learned_again(tmp_path, teach, manifest, record, learn):
    file_of(teach(tmp_path), b"t1" * 9).write_bytes(b"damaged")
    with DataDir(tmp_path) as data:
        data.admit(record("again", memory="fish"), manifest)
        data.commit("fish", "again", learn("again", b"t1" * 9))
        assert data.blobs[digest(b"t1" * 9)] == b"t1" * 9
        assert data.admit(record("t2"))[1]


def test_a_flipped_bit_in_the_catalog_is_noticed_or_changes_no_memory(tmp_path, teach):
    def memories(data):
        names = [record.name for record in data.catalog.memories()]
        return [(name, data.catalog.manifest(name, revision).to_json()) for name in names for revision in (0, None)]

    path = teach(tmp_path) / "catalog.sqlite"
    with DataDir(tmp_path) as data:
        expected = memories(data)
    content, choose, noticed = path.read_bytes(), random.Random(1), 0
    used = [at for at in range(len(content)) if content[at]]
    for _ in range(60):
        damaged = bytearray(content)
        damaged[choose.choice(used)] ^= 1 << choose.randrange(8)
        path.write_bytes(damaged)
        try:
            with DataDir(tmp_path) as data:
                assert memories(data) == expected
        except DataDirError as error:
            assert "catalog" in str(error) or "format" in str(error)
            noticed += 1
    assert noticed > 30


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE entries SET entry = replace(entry, '0.9', '0.8') WHERE task = 't0'", "entry of task 't0'"),
        ("UPDATE entries SET first_revision = 2 WHERE task = 't0'", "revision 1 of memory 'digits'"),
        ("UPDATE memories SET options = '{\"seed\": \"8\"}' WHERE name = 'birds'", "of memory 'birds'"),
        ("UPDATE revisions SET shared = '{}' WHERE memory = 'birds' AND revision = 1", "revision 1 of memory 'birds'"),
        ("UPDATE tasks SET state = 'LEARNT'", "a row cannot be read"),
        ("DELETE FROM blobs", "a reference of"),
    ],
)
def test_a_catalog_that_says_something_else_than_was_written_stops_the_start(tmp_path, teach, statement, why):
    with closing(sqlite3.connect(teach(tmp_path) / "catalog.sqlite")) as db, db:
        db.execute(statement)
    for _ in range(2):
        with pytest.raises(DataDirError, match=rf"catalog .* is damaged \(.*{why}.*restore it from a backup"):
            DataDir(tmp_path)
