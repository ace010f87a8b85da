"""Encryption at rest: a key of its own for every blob."""

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from dgm_core.manifest import Shared
from memory_server.store.archive import pieces
from memory_server.store.blobs import BlobStore
from memory_server.store.catalog import Catalog
from memory_server.store.database import Database
from memory_server.store.datadir import DataDir
from memory_server.store.errors import CorruptBlob, WrongKey
from memory_server.store.sealing import BadKey, SealingKey

WEIGHTS = os.urandom(100_000)
SOLVER = os.urandom(50_000)


@pytest.fixture
def master():
    return SealingKey.new()


@pytest.fixture
def teach(record, learn, manifest):
    def teach(data, task="t0", own=WEIGHTS, solver=SOLVER):
        data.admit(record(task), manifest)
        data.commit("digits", task, learn(task, own, solver, revision=data.catalog.manifest("digits").revision))

    return teach


@pytest.fixture
def taught(tmp_path, master, teach):
    with DataDir(tmp_path, master=master) as data:
        teach(data)
    return tmp_path


def readable(path, content):
    """The files that hold any of a few runs of 16 bytes of some content."""
    runs = [content[at : at + 16] for at in range(0, len(content) - 16, len(content) // 5)]
    found = [file for file in path.rglob("*") if file.is_file()]
    return [file.name for file in found if any(run in file.read_bytes() for run in runs)]


def test_no_content_of_any_blob_is_in_any_file_and_all_of_it_is_there(taught, master):
    assert readable(taught, WEIGHTS) + readable(taught, SOLVER) == []
    with DataDir(taught, master=master) as data:
        assert set(data.blobs.values()) == {WEIGHTS, SOLVER}
        assert readable(taught, WEIGHTS) == []


def test_without_a_key_everything_is_readable(tmp_path, teach):
    with DataDir(tmp_path) as data:
        teach(data)
    assert len(readable(tmp_path, WEIGHTS)) == 1


def test_every_blob_has_a_key_of_its_own_that_is_in_no_file(taught, master):
    with DataDir(taught, master=master) as data:
        secrets = [data.catalog.keys[digest].secret for digest in data.blobs]
        assert len(set(secrets)) == 2
        for secret in [*secrets, master.secret]:
            assert readable(taught, secret + secret.hex().encode()) == []


def test_a_flipped_bit_is_noticed(taught, master):
    with DataDir(taught, master=master) as data:
        for digest in data.blobs:
            path = taught / "blobs" / digest[:2] / digest
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
            with pytest.raises(CorruptBlob, match=digest):
                data.blobs[digest]


def test_a_blob_that_was_damaged_is_whole_again_once_it_is_stored_again(taught, master, teach):
    with DataDir(taught, master=master) as data:
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        (taught / "blobs" / digest[:2] / digest).write_bytes(b"damaged")
        teach(data, "t1")
        assert set(data.blobs.values()) == {WEIGHTS, SOLVER}
    with DataDir(taught, master=master) as data:
        assert set(data.blobs.values()) == {WEIGHTS, SOLVER}


def test_the_key_of_a_forgotten_blob_is_in_no_file_so_that_a_copy_of_the_blob_is_worth_nothing(taught, master):
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    copy = (taught / "blobs" / digest[:2] / digest).read_bytes()
    with DataDir(taught, master=master) as data:
        sealed = _sealed_keys(data)
        assert all(readable(taught, each) for each in sealed)
        data.forget("digits", "t0")
        assert [readable(taught, each) for each in sealed] == [[], []]
        (taught / "blobs" / digest[:2] / digest).write_bytes(copy)
        with pytest.raises(KeyError):
            data.blobs[digest]
        data.restore("digits", 2, Shared({"solver": digest}, {digest: WEIGHTS}))
        assert data.blobs[digest] == WEIGHTS
    assert _whole(taught, master)


def test_a_server_that_was_killed_before_it_scrubbed_the_key_of_a_forgotten_blob_is_followed_by_one_that_does(
    taught, master, tmp_path_factory, monkeypatch
):
    killed = tmp_path_factory.mktemp("killed")
    with DataDir(taught, master=master) as data:
        sealed = _sealed_keys(data)
        with monkeypatch.context() as patch:
            patch.setattr(Database, "scrub", lambda _: None)
            data.forget("digits", "t0")
        shutil.copytree(taught, killed, dirs_exist_ok=True)
    assert all(readable(killed, each) for each in sealed)
    with DataDir(killed, master=master):
        assert [readable(killed, each) for each in sealed] == [[], []]


def _sealed_keys(data):
    with closing(sqlite3.connect(data.path / "catalog.sqlite")) as db:
        return [sealed for (sealed,) in db.execute("SELECT sealed_key FROM blobs")]


def _whole(path, master):
    with DataDir(path, master=master) as data:
        return all(map(bool, data.blobs.values()))


@pytest.mark.parametrize(
    ("made_with", "opened_with", "why"),
    [
        ("key", None, "is encrypted; give its key with --encryption-key-file"),
        ("key", "another", "was encrypted by another key; give that one"),
        (None, "key", "is not encrypted, and a key was given; start without one"),
    ],
)
def test_a_directory_is_opened_as_it_was_made_or_not_at_all(tmp_path, made_with, opened_with, why):
    keys = {"key": SealingKey.new(), "another": SealingKey.new(), None: None}
    DataDir(tmp_path, master=keys[made_with]).close()
    with pytest.raises(WrongKey, match=why) as refused:
        DataDir(tmp_path, master=keys[opened_with])
    assert not any(key.secret.hex() in str(refused.value) for key in keys.values() if key is not None)
    DataDir(tmp_path, master=keys[made_with]).close()


def test_another_key_takes_over_without_a_change_of_the_blobs(taught, master):
    before = {path: path.read_bytes() for path in (taught / "blobs").rglob("*/*")}
    following = SealingKey.new()
    with DataDir(taught, master=master) as data:
        old = _sealed_keys(data)
        assert data.catalog.change_key(master, following) == 2
    assert {path: path.read_bytes() for path in (taught / "blobs").rglob("*/*")} == before
    with pytest.raises(WrongKey):
        Catalog(taught / "catalog.sqlite", master=master)
    with DataDir(taught, master=following) as data:
        assert set(data.blobs.values()) == {WEIGHTS, SOLVER}
        assert [readable(taught, each) for each in old] == [[], []]


def test_a_worker_reads_by_the_keys_that_it_was_handed_alone(taught, master):
    with DataDir(taught, master=master) as data:
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        store = BlobStore(taught / "blobs", {digest: data.catalog.keys[digest]})
        assert store[digest] == WEIGHTS
        with pytest.raises(KeyError):
            store[hashlib.sha256(SOLVER).hexdigest()]


def test_an_export_is_readable_and_its_import_is_sealed(taught, master, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with DataDir(taught, master=master) as data, DataDir(elsewhere, master=SealingKey.new()) as other:
        with other.arrival() as arrival:
            for piece in pieces(data.catalog.export_memory("digits"), data.blobs):
                arrival.feed(piece)
            assert readable(elsewhere, WEIGHTS) == []
            arrival.keep("digits")
        assert readable(elsewhere, WEIGHTS) == []
        assert dict(other.blobs) == dict(data.blobs)


def test_a_new_key_is_private_and_overwrites_nothing(tmp_path):
    key = SealingKey.new()
    key.write(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert SealingKey.read(tmp_path / "key").secret == key.secret
    with pytest.raises(BadKey, match="is there already"):
        SealingKey.new().write(tmp_path / "key")
    assert SealingKey.read(tmp_path / "key").secret == key.secret
    with pytest.raises(BadKey, match="no key can be written"):
        SealingKey.new().write(tmp_path / "none" / "key")
