import errno
import hashlib
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from dgm_core.manifest import Shared
from memory_server.errors import UnknownMemory
from memory_server.store.blobs import BlobStore
from memory_server.store.datadir import DataDir
from memory_server.store.errors import CommitFailed, DataDirError, NotDeleted, NotForgotten, SolverNotStored
from memory_server.store.records import TaskState

HOLD = """
import sys, time
from pathlib import Path
from memory_server.errors import UnknownMemory
from memory_server.store.datadir import DataDir
data = DataDir(Path(sys.argv[1]))
print("open", flush=True)
time.sleep(60)
"""

COMMIT_FOREVER = """
import hashlib, sys
from itertools import count
from pathlib import Path
from dgm_core.manifest import DataSpec, ExpertEntry, Learned, Manifest, TaskEntry
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskRecord

data = DataDir(Path(sys.argv[1]))
empty = Manifest("dgmw", {"seed": "7"}, DataSpec((1, 8, 8), "uint8"))
first = len(data.catalog.tasks("digits")) if data.catalog.memories() else 0
for index in count(first):
    task, solver = f"t{index}", b"solver%d" % index * 1000
    blobs = {hashlib.sha256(content).hexdigest(): content for content in (task.encode() * 1000, solver)}
    own, shared = blobs
    entry = TaskEntry(task, own, (ExpertEntry("e" * 64, (0,), (1,)),), 1.0, 1, 1.0)
    data.catalog.admit(TaskRecord("digits", task, (0,), 1, "d"), empty)
    revision = data.catalog.manifest("digits").revision
    data.commit("digits", task, Learned(entry, {"solver": shared}, blobs, revision))
    print(task, flush=True)
"""


FORGET_FOREVER = COMMIT_FOREVER.replace(
    "    print(task, flush=True)",
    """
    if index % 2:
        data.forget("digits", task)
        data.restore("digits", revision + 2, Shared({"solver": shared}, {shared: blobs[shared]}))
    print(task, flush=True)
""",
).replace("TaskEntry\n", "Shared, TaskEntry\n")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize("there", [False, True])
def test_a_directory_belongs_to_its_owner_alone(path, there):
    if there:
        path.mkdir()
        path.chmod(0o755)
    with DataDir(path) as data:
        assert data.catalog.memories() == []
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_commit_stores_the_blobs_and_a_delete_removes_them(path, manifest, record, learn):
    with DataDir(path) as data:
        data.catalog.admit(record("t0"), manifest)
        learned = learn("t0", b"four", solver=b"solver")
        committed = data.commit("digits", "t0", learned)
        assert dict(data.blobs) == learned.blobs
        assert data.catalog.manifest("digits") == committed.manifest
        data.delete_memory("digits")
        assert len(data.blobs) == 0


def test_of_a_task_whose_analysis_cannot_be_told_nothing_is_stored(path, manifest, record, learn):
    with DataDir(path) as data:
        data.catalog.admit(record("t0"), manifest)
        learned = learn("t0", b"four")
        wrong = replace(learned, entry=replace(learned.entry, analysis={"parameters": 5}))
        with pytest.raises(ValueError, match="cannot be told"):
            data.commit("digits", "t0", wrong)
        assert len(data.blobs) == 0
        assert data.catalog.manifest("digits") == manifest


def test_a_superseded_blob_is_removed_from_the_disk(path, manifest, record, learn):
    with DataDir(path) as data:
        for index in range(3):
            data.catalog.admit(record(f"t{index}"), manifest)
            learned = learn(f"t{index}", b"%d" % index, solver=b"solver%d" % index, revision=index)
            data.commit("digits", f"t{index}", learned)
        assert set(data.blobs.values()) == {b"0", b"1", b"2", b"solver1", b"solver2"}


def test_a_disk_that_fills_while_blobs_are_written_leaves_the_memory_as_it_was(
    path, manifest, record, learn, monkeypatch
):
    with DataDir(path) as data:
        data.catalog.admit(record("t0"), manifest)
        put, written = data.blobs.put, []

        def full_after_one(content):
            if written:
                raise OSError(28, "No space left on device")
            written.append(put(content))

        monkeypatch.setattr(data.blobs, "put", full_after_one)
        with pytest.raises(CommitFailed, match="No space left on device"):
            data.commit("digits", "t0", learn("t0", b"four", solver=b"solver"))
        assert len(written) == 1
        assert len(data.blobs) == 0
        assert data.catalog.manifest("digits") == manifest
        assert data.catalog.task("digits", "t0").state is TaskState.QUEUED


def test_a_disk_that_fills_in_the_catalog_leaves_the_memory_as_it_was(path, manifest, record, learn, monkeypatch):
    def full(*_):
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("database or disk is full"))

    with DataDir(path) as data:
        data.catalog.admit(record("t0"), manifest)
        monkeypatch.setattr(data.catalog, "commit", full)
        with pytest.raises(CommitFailed, match="disk is full; free disk space"):
            data.commit("digits", "t0", learn("t0", b"four"))
        assert len(data.blobs) == 0


def test_a_failed_commit_keeps_the_blobs_that_others_use(path, manifest, record, learn):
    with DataDir(path) as data:
        data.catalog.admit(record("t0"), manifest)
        data.commit("digits", "t0", learn("t0", b"same"))
        with pytest.raises(UnknownMemory):
            data.commit("birds", "t0", learn("t0", b"same"))
        assert list(data.blobs.values()) == [b"same"]


@pytest.fixture
def teach(manifest, record, learn):
    """Has two memories learn the same task t0, and digits t1 beside it."""

    def teach(data):
        for memory, task in (("digits", "t0"), ("birds", "t0"), ("digits", "t1")):
            data.catalog.admit(record(task, memory=memory), manifest)
            revision = data.catalog.manifest(memory).revision
            learned = learn(task, task.encode(), solver=f"{memory} {task}".encode(), revision=revision)
            data.commit(memory, task, learned)

    return teach


@pytest.fixture
def taught(path, teach):
    with DataDir(path) as data:
        teach(data)
        yield data


def test_forgetting_removes_the_blobs_that_no_memory_needs_any_more(taught):
    taught.forget("digits", "t0")
    assert set(taught.blobs.values()) == {b"t0", b"t1", b"birds t0"}
    taught.forget("digits", "t1")
    assert set(taught.blobs.values()) == {b"t0", b"birds t0"}
    taught.forget("birds", "t0")
    assert len(taught.blobs) == 0


def test_a_solver_that_is_made_anew_is_stored_with_its_revision(taught):
    revision = taught.forget("digits", "t1").manifest.revision
    digest = hashlib.sha256(b"anew").hexdigest()
    restored = taught.restore("digits", revision, Shared({"solver": digest}, {digest: b"anew"})).manifest
    assert taught.blobs[restored.shared["solver"]] == b"anew"
    assert taught.catalog.manifest("digits") == restored


def test_a_solver_that_cannot_be_stored_leaves_the_memory_as_it_was(taught, monkeypatch):
    before = taught.forget("digits", "t1").manifest

    def full(*_):
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(taught.catalog, "restore", full)
    digest = hashlib.sha256(b"anew").hexdigest()
    with pytest.raises(SolverNotStored, match="disk is full; free disk space"):
        taught.restore("digits", before.revision, Shared({"solver": digest}, {digest: b"anew"}))
    assert taught.catalog.manifest("digits") == before
    assert digest not in taught.blobs


def test_a_solver_of_a_revision_that_is_not_the_newest_any_more_is_not_stored(taught, learn, record):
    trained_on = taught.forget("digits", "t1").manifest
    taught.catalog.admit(record("t2"))
    newest = taught.commit("digits", "t2", learn("t2", b"t2", revision=trained_on.revision)).manifest
    digest = hashlib.sha256(b"anew").hexdigest()
    assert taught.restore("digits", trained_on.revision, Shared({"solver": digest}, {digest: b"anew"})) is None
    assert taught.catalog.manifest("digits") == newest
    assert digest not in taught.blobs


def test_a_solver_that_others_have_overtaken_is_never_written(taught, learn, record, monkeypatch):
    """Not even for a moment: it has seen data."""
    written, put = [], taught.blobs.put
    monkeypatch.setattr(taught.blobs, "put", lambda content: written.append(content) or put(content))
    started_on = taught.catalog.manifest("digits").revision
    for task in ("t2", "t3"):
        taught.catalog.admit(record(task))
        solver = f"solver {task}".encode()
        committed = taught.commit("digits", task, learn(task, task.encode(), solver, revision=started_on))
    assert written == [b"t2", b"solver t2", b"t3"]
    assert ([entry.task for entry in committed.manifest.tasks], committed.manifest.complete) == (
        ["t0", "t1", "t2", "t3"],
        False,
    )
    assert taught.catalog.digests() == set(taught.blobs)


@pytest.mark.parametrize(
    ("verb", "named", "failed", "said"),
    [
        ("forget", ("digits", "t1"), NotForgotten, "nothing was forgotten"),
        ("delete_memory", ("digits",), NotDeleted, "nothing was deleted"),
    ],
)
def test_a_disk_that_is_full_erases_nothing_and_says_so(verb, named, failed, said, taught, monkeypatch):
    def full(*_):
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("database or disk is full"))

    before = dict(taught.blobs)
    monkeypatch.setattr(taught.catalog, verb, full)
    with pytest.raises(failed, match=f"{said}.*disk is full.*free space"):
        getattr(taught, verb)(*named)
    assert dict(taught.blobs) == before


@pytest.fixture
def disk_that_lets_nothing_go(monkeypatch):
    """A context in which no file can be removed."""

    @contextmanager
    def failing(data):
        def broken(_):
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(data.blobs, "delete", broken)
            yield

    return failing


def test_what_the_disk_does_not_let_go_is_said_and_removed_with_the_next(path, teach, disk_that_lets_nothing_go):
    with DataDir(path) as data:
        teach(data)
        with disk_that_lets_nothing_go(data):
            forgotten = data.forget("digits", "t1")
        assert "Input/output error" in forgotten.undeleted
        assert [entry.task for entry in data.catalog.manifest("digits").tasks] == ["t0"]
        assert b"t1" in data.blobs.values()
        with disk_that_lets_nothing_go(data):
            assert data.delete_memory("birds").undeleted == "Input/output error"
        assert data.forget("digits", "t0").undeleted == ""
        assert list(data.blobs) == []


def test_what_the_disk_does_not_let_go_stays_if_it_is_needed_again(
    path, teach, learn, record, disk_that_lets_nothing_go
):
    with DataDir(path) as data:
        teach(data)
        with disk_that_lets_nothing_go(data):
            data.forget("digits", "t1")
        data.admit(record("again"))
        data.commit("digits", "again", learn("again", b"t1"))
        data.forget("digits", "t0")
        assert set(data.blobs.values()) == {b"t0", b"t1", b"birds t0"}  # birds needs t0, too


def test_a_task_is_learned_though_the_disk_does_not_let_the_last_solver_go(
    taught, record, learn, disk_that_lets_nothing_go
):
    taught.admit(record("t2"))
    with disk_that_lets_nothing_go(taught):
        assert taught.commit("digits", "t2", learn("t2", b"t2", solver=b"another")).manifest.tasks[-1].task == "t2"


def test_a_start_on_a_disk_that_lets_nothing_go_is_refused_while_something_has_to_go(path, teach, monkeypatch):
    with DataDir(path) as data:
        teach(data)
        data.blobs.put(b"orphan")
    with monkeypatch.context() as patch:
        patch.setattr(BlobStore, "delete", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        with pytest.raises(DataDirError, match=r"cannot be put in order \(Input/output error\)"):
            DataDir(path)
    with DataDir(path) as data:
        assert b"orphan" not in data.blobs.values()


def test_blobs_of_a_task_that_was_forgotten_just_before_a_crash_are_gone_after_it(path, teach, monkeypatch):
    def killed(_):
        raise KeyboardInterrupt

    with DataDir(path) as data:
        teach(data)
        monkeypatch.setattr(data.blobs, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            data.forget("digits", "t1")
        assert b"t1" in data.blobs.values()
    with DataDir(path) as data:
        assert set(data.blobs.values()) == {b"t0", b"birds t0"}
        assert [entry.task for entry in data.catalog.manifest("digits").tasks] == ["t0"]


def test_opening_removes_debris_and_fails_what_was_in_flight(path, manifest, record):
    with DataDir(path) as data:
        data.catalog.admit(record("t0"), manifest)
        digest = data.blobs.put(b"orphan")
        (path / "blobs" / digest[:2] / "half.unfinished").write_bytes(b"x")
    with DataDir(path) as data:
        assert not [found for found in (path / "blobs").rglob("*") if found.is_file()]
        assert data.catalog.task("digits", "t0").state is TaskState.FAILED


def test_a_directory_in_use_names_the_process_and_is_free_once_that_dies(path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(DataDirError, match=rf"in use by another server \(process {holder.pid}\)"):
            DataDir(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    DataDir(path).close()


def test_a_failed_opening_releases_the_lock(path):
    with DataDir(path):
        pass
    with sqlite3.connect(path / "catalog.sqlite") as db:
        db.execute("UPDATE schema_version SET version = 99")
    for _ in range(2):
        with pytest.raises(DataDirError, match=r"format 99.*newer memory-server"):
            DataDir(path)
    db.close()


def test_a_damaged_catalog_says_so(path):
    path.mkdir()
    (path / "catalog.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(DataDirError, match="restore it from a backup"):
        DataDir(path)


@pytest.mark.parametrize("parent", ["file", "/proc"])
def test_a_directory_that_cannot_be_written_says_what_to_do(tmp_path, parent):
    (tmp_path / "file").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(DataDirError, match=r"cannot be written.*--data-dir"):
        DataDir(tmp_path / parent / "data")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("milliseconds", [0, 3, 7, 12])
def test_a_server_killed_at_any_instant_loses_no_task_that_it_has_committed(path, milliseconds):
    with subprocess.Popen(
        [sys.executable, "-c", COMMIT_FOREVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as server:
        reported = [server.stdout.readline().strip() for _ in range(3)]
        time.sleep(milliseconds / 1000)
        server.send_signal(signal.SIGKILL)
        reported += server.stdout.read().split()
    with DataDir(path) as data:
        manifest = data.catalog.manifest("digits")
        learned = [task.task for task in data.catalog.tasks("digits") if task.state is TaskState.LEARNED]
        assert learned[: len(reported)] == reported
        assert [entry.task for entry in manifest.tasks] == learned
        assert all(data.blobs[digest] for digest in manifest.digests)
        assert set(data.blobs) == data.catalog.digests()


@pytest.mark.parametrize("milliseconds", [0, 5, 11])
def test_a_server_killed_at_any_instant_has_forgotten_a_task_wholly_or_not_at_all(path, milliseconds):
    with subprocess.Popen(
        [sys.executable, "-c", FORGET_FOREVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as server:
        reported = [server.stdout.readline().strip() for _ in range(4)]
        time.sleep(milliseconds / 1000)
        server.send_signal(signal.SIGKILL)
        reported += server.stdout.read().split()
    with DataDir(path) as data:
        manifest = data.catalog.manifest("digits")
        held = [entry.task for entry in manifest.tasks]
        learned = [task.task for task in data.catalog.tasks("digits") if task.state is TaskState.LEARNED]
        assert held == learned
        assert not set(reported[1::2]) & set(held)
        assert set(reported[::2]) <= set(held)
        assert all(data.blobs[digest] for digest in manifest.digests)
        assert set(data.blobs) == data.catalog.digests()
