"""A disk that is full, whenever it fills, and a clock that jumps: what was committed stays, the next attempt works."""

import subprocess
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

import pytest

from memory_server.store.datadir import DataDir
from memory_server.store.errors import CommitFailed, DataDirError, NotForgotten
from memory_server.store.records import TaskState

PAGE = 4096
DISK = 512 * 1024


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of its own, of half a mebibyte."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def leave(disk: Path, pages: int) -> None:
    """Fills the disk but for so many pages."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    with filler.open("wb", buffering=0) as file:
        try:
            for _ in count():
                file.write(bytes(PAGE))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - file.tell() % PAGE - pages * PAGE))


def consistent(data: DataDir) -> bool:
    """No blob is missing, and none is there that nothing names."""
    return set(data.blobs) == data.catalog.digests() and all(data.blobs.values())


def test_a_disk_that_is_full_at_any_write_of_a_commit_leaves_all_as_it_was(disk, manifest, record, learn):
    learned = [learn(f"t{n}", b"%d" % n * 5000, solver=b"s%d" % n * 5000, revision=n) for n in range(2)]
    with DataDir(disk / "data") as data:
        data.admit(record("t0"), manifest)
        before = data.commit("digits", "t0", learned[0]).manifest
        data.admit(record("t1"))
        for pages in count():
            leave(disk, pages)
            try:
                committed = data.commit("digits", "t1", learned[1])
                break
            except CommitFailed as error:
                assert "free disk space" in str(error)
            assert data.catalog.manifest("digits") == before
            assert data.catalog.task("digits", "t1").state is TaskState.QUEUED
            assert consistent(data)
        assert pages > 3, "the disk was never full"
    with DataDir(disk / "data") as data:
        assert data.catalog.manifest("digits") == committed.manifest
        assert consistent(data)


def test_a_disk_that_is_full_at_any_write_of_forgetting_forgets_wholly_or_not_at_all(disk, manifest, record, learn):
    with DataDir(disk / "data") as data:
        data.admit(record("t0"), manifest)
        before = data.commit("digits", "t0", learn("t0", b"0" * 5000, solver=b"s" * 5000)).manifest
        for pages in count():
            leave(disk, pages)
            try:
                forgotten = data.forget("digits", "t0")
                break
            except NotForgotten:
                assert data.catalog.manifest("digits") == before
                assert consistent(data)
        assert forgotten.manifest.tasks == ()
        assert consistent(data)


def test_a_full_disk_at_the_start_is_said_or_does_not_matter(disk, manifest, record, learn):
    with DataDir(disk / "data") as data:
        data.admit(record("t0"), manifest)
        before = data.commit("digits", "t0", learn("t0", b"0" * 5000)).manifest
    for pages in range(20):
        leave(disk, pages)
        try:
            with DataDir(disk / "data") as data:
                assert data.catalog.manifest("digits") == before
        except DataDirError as error:
            assert "full" in str(error)


def test_a_directory_on_a_disk_that_is_read_only_says_what_to_do(disk, manifest):
    with DataDir(disk / "data") as data:
        data.create_memory("digits", manifest)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(DataDirError, match=r"cannot be written.*--data-dir"):
        DataDir(disk / "data")


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
