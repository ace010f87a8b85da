"""A disk that is full, whenever it fills, and a clock that jumps: what was committed stays, the next attempt works."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from memory_server.store.checkpoints import CheckpointStore
from memory_server.store.datadir import DataDir
from memory_server.store.errors import CommitFailed, DataDirError, NotDeleted, NotForgotten, NotRecorded
from memory_server.store.inspection import inspect
from memory_server.store.records import TaskState
from memory_server.store.sealing import SealingKey

PAGE = 4096
DISK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Mounted:
    """A file system of its own, of four mebibytes."""

    path: Path

    @contextmanager
    def leaving(self, pages: int) -> Iterator[None]:
        """Inside the block it is full but for so many pages."""
        filler = self.path / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                for _ in count():
                    file.write(bytes(PAGE))
            except OSError:
                pass
            file.truncate(max(0, file.tell() - file.tell() % PAGE - pages * PAGE))
        try:
            yield
        finally:
            filler.unlink()


@dataclass(frozen=True)
class Limited:
    """A directory of the disk that is there. Nothing has to be mounted for it."""

    path: Path

    @contextmanager
    def leaving(self, pages: int) -> Iterator[None]:
        """Inside the block no file of this process can be written beyond so many pages."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (pages * PAGE, hard))
        try:
            with capture_logs():  # as the server's own log, which loses what it cannot write
                yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def mounted(tmp_path) -> Iterator[Mounted]:
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    yield Mounted(where)
    subprocess.run(["umount", "--lazy", str(where)], check=True)


@pytest.fixture(params=["mounted", "limited"])
def disk(request, tmp_path) -> Mounted | Limited:
    """One that can be full."""
    return request.getfixturevalue("mounted") if request.param == "mounted" else Limited(tmp_path)


def consistent(data: DataDir) -> bool:
    """No blob is missing, and none is there that nothing names."""
    return set(data.blobs) == data.catalog.digests() and all(data.blobs.values())


def test_a_disk_that_is_full_at_any_write_of_a_commit_leaves_all_as_it_was(disk, manifest, record, learn):
    learned = [learn(f"t{n}", b"%d" % n * 5000, solver=b"s%d" % n * 5000, revision=n) for n in range(2)]
    with DataDir(disk.path / "data") as data:
        data.admit(record("t0"), manifest)
        before = data.commit("digits", "t0", learned[0]).manifest
        data.admit(record("t1"))
        for pages in count():
            try:
                with disk.leaving(pages):
                    committed = data.commit("digits", "t1", learned[1])
                break
            except CommitFailed as error:
                assert "free disk space" in str(error)
            assert data.catalog.manifest("digits") == before
            assert data.catalog.task("digits", "t1").state is TaskState.QUEUED
            assert consistent(data)
        assert pages > 3, "the disk was never full"
    with DataDir(disk.path / "data") as data:
        assert data.catalog.manifest("digits") == committed.manifest
        assert consistent(data)


@pytest.mark.parametrize(
    ("erase", "failed"),
    [
        pytest.param(lambda data: data.forget("digits", "t0"), NotForgotten, id="forgetting"),
        pytest.param(lambda data: data.delete_memory("digits"), NotDeleted, id="deleting"),
    ],
)
def test_a_disk_that_is_full_at_any_write_of_an_erasure_erases_wholly_or_not_at_all(
    erase, failed, disk, manifest, record, learn
):
    with DataDir(disk.path / "data") as data:
        data.admit(record("t0"), manifest)
        before = data.commit("digits", "t0", learn("t0", b"0" * 5000, solver=b"s" * 5000)).manifest
        for pages in count():
            try:
                with disk.leaving(pages):
                    erased = erase(data)
                break
            except failed as error:
                assert "free space" in str(error)
                assert data.catalog.manifest("digits") == before
                assert consistent(data)
        assert pages > 0, "the disk was never full"
        assert (erased.undeleted, len(data.blobs)) == ("", 0)
        assert consistent(data)


def test_a_checkpoint_that_a_full_disk_does_not_hold_takes_no_room_from_the_commit(disk, manifest, record, learn):
    with DataDir(disk.path / "data") as data:
        data.admit(record("t0"), manifest)
        slot = CheckpointStore(disk.path / "checkpoints", SealingKey.new(), 60.0).slot("digits", "t0", "a0")
        slot.write(b"the one before")
        with disk.leaving(80):
            with pytest.raises(OSError, match=r"No space left|File too large"):
                slot.write(os.urandom(100 * PAGE))
            data.commit("digits", "t0", learn("t0", b"0" * 5000, solver=b"s" * 5000))
        assert slot.read() == b"the one before"
        assert [path.name for path in (disk.path / "checkpoints").iterdir()] == [Path(slot.path).name]


def test_a_disk_that_is_full_when_a_task_moves_on_is_said(disk, manifest, record):
    with DataDir(disk.path / "data") as data:
        data.admit(record("t0"), manifest)
        with disk.leaving(0), pytest.raises(NotRecorded, match="free space"):
            for _ in count():
                data.set_state("digits", "t0", TaskState.LEARNING)
        data.set_state("digits", "t0", TaskState.LEARNING)


def test_a_full_disk_at_the_start_is_said_or_does_not_matter(disk, manifest, record, learn):
    waiting = [f"t{n} {'and so on' * 25}" for n in range(1, 60)]  # failing them takes more pages than opening a catalog
    with DataDir(disk.path / "data") as data:
        data.admit(record("t0"), manifest)
        before = data.commit("digits", "t0", learn("t0", b"0" * 5000)).manifest
        for task in waiting:
            data.admit(record(task))
    said = []
    for pages in range(40):
        with suppress(DataDirError), disk.leaving(pages):
            said += [finding.advice for finding in inspect(disk.path / "data", None, deep=False)]
        try:
            with disk.leaving(pages), DataDir(disk.path / "data") as data:
                assert data.catalog.manifest("digits") == before
                assert {data.catalog.task("digits", task).state for task in waiting} == {TaskState.FAILED}
        except DataDirError as error:
            assert "--data-dir" in str(error)
            said.append(str(error))
    assert [text for text in said if "free space" not in text] == []
    assert [text for text in said if "nothing is lost" in text]
    assert inspect(disk.path / "data", None, deep=False) == []


def test_a_file_that_goes_while_a_directory_is_looked_at_is_no_finding(tmp_path, manifest, monkeypatch):
    with DataDir(tmp_path / "data") as data:
        data.create_memory("digits", manifest)
    listed = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda path, pattern: [*listed(path, pattern), path / "catalog.sqlite-gone"])
    assert inspect(tmp_path / "data", None, deep=False) == []


def test_a_directory_on_a_disk_that_is_read_only_says_what_to_do(mounted, manifest):
    with DataDir(mounted.path / "data") as data:
        data.create_memory("digits", manifest)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted.path)], check=True)
    with pytest.raises(DataDirError, match=r"cannot be written.*--data-dir"):
        DataDir(mounted.path / "data")


def test_a_clock_that_jumps_changes_no_order_and_loses_nothing(tmp_path, manifest, record, learn):
    jumping = cycle((2e9, 0.0, 1e9, -1e9))
    tasks = [f"t{n}" for n in range(5)]
    with DataDir(tmp_path / "data", clock=lambda: next(jumping)) as data:
        for revision, task in enumerate(tasks):
            data.admit(record(task), manifest)
            data.commit("digits", task, learn(task, task.encode(), revision=revision))
    with DataDir(tmp_path / "data", clock=lambda: -1e9) as data:
        assert [task.task for task in data.catalog.tasks("digits")] == tasks
        assert all(task.state is TaskState.LEARNED for task in data.catalog.tasks("digits"))
        assert [entry.task for entry in data.catalog.manifest("digits").tasks] == tasks
        data.forget("digits", "t4")
        assert data.catalog.manifest("digits").revision == 6
