import hashlib
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_server.store.blobs import BlobStore
from memory_server.store.errors import CorruptBlob


@pytest.fixture
def store(tmp_path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=1000))
def test_a_blob_comes_back_as_it_went_in_under_the_hash_of_its_content(store, content):
    digest = store.put(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert store[digest] == content


def test_storing_a_blob_again_changes_nothing(store):
    first = store.put(b"weights")
    path = store.directory / first[:2] / first
    before = path.stat()
    assert store.put(b"weights") == first
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(store) == 1


def test_a_tampered_blob_is_refused_and_storing_it_again_heals_it(store):
    digest = store.put(b"weights")
    (store.directory / digest[:2] / digest).write_bytes(b"poison")
    with pytest.raises(CorruptBlob, match=digest):
        store[digest]
    store.put(b"weights")
    assert store[digest] == b"weights"


@pytest.mark.parametrize("name", ["0" * 64, "short", "../../etc/passwd", ""])
def test_a_name_that_is_not_stored_is_a_key_error(store, name):
    assert name not in store
    with pytest.raises(KeyError):
        store[name]


def test_only_the_owner_may_read_blobs(store):
    digest = store.put(b"weights")
    path = store.directory / digest[:2] / digest
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (store.directory, path.parent, path)]
    assert modes == [0o700, 0o700, 0o600]


def test_orphans_are_what_nothing_refers_to(store):
    kept, lost = store.put(b"kept"), store.put(b"lost")
    assert store.orphans({kept, "f" * 64}) == {lost}
    store.delete([lost, "f" * 64])
    assert set(store) == {kept}


def test_what_a_killed_server_was_writing_is_no_blob_and_is_removed(store):
    digest = store.put(b"whole")
    debris = store.directory / digest[:2] / "tmpabc.unfinished"
    debris.write_bytes(b"ha")
    assert set(store) == {digest}
    store.remove_unfinished()
    assert not debris.exists()


def test_a_write_that_fails_leaves_nothing_behind(store, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memory_server.store.blobs.os.fsync", full)
    store.directory.mkdir()
    digest = hashlib.sha256(b"weights").hexdigest()
    (store.directory / digest[:2]).mkdir()
    with pytest.raises(OSError, match="No space left"):
        store.put(b"weights")
    assert list(store.directory.glob("*/*")) == []
