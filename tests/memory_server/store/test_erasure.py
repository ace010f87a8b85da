"""What is erased and what stays, with memories that have really learned; exports tell what was there before."""

from dataclasses import replace

import pytest

from dgm_core.blobs import digest
from dgm_core.errors import CannotForget
from dgm_core.memories import load_memory
from memory_server.store.archive import ArchiveReader, pieces
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskRecord, TaskState
from tests.contract.test_memory_kinds import CPU, IMAGE, SHORT, SMALL, Variant, bytes_of, examples, learned_now

pytestmark = pytest.mark.usefixtures("small_batches")


def teach(data, kind, memory, task, label, **terms):
    """One more task, as a server commits it."""
    empty, _ = Variant(kind, SMALL).empty()
    data.admit(TaskRecord(memory, task, (label,), 24, f"digest of {task}"), empty)
    now = data.catalog.manifest(memory)
    learned = learned_now(now, data.blobs, examples(IMAGE, [label]), task, replace(SHORT, **terms))
    data.commit(memory, task, learned)


def forget(data, memory, task):
    """Erases a task, and makes anew what the memory shares."""
    left = data.forget(memory, task).manifest
    if left.tasks:
        shared = load_memory(left, data.blobs).restore(report=lambda progress: None, device=CPU)
        left = data.restore(memory, left.revision, shared).manifest
    return left


def exported(data, memory):
    return b"".join(pieces(data.catalog.export_memory(memory), data.blobs))


def in_export(file):
    """What an exported file tells of its tasks, and their blobs."""
    blobs = {}

    def put(content):
        blobs[digest(content)] = content
        return digest(content)

    reader = ArchiveReader(put, room=1 << 30)
    reader.feed(file)
    tasks = reader.finish().manifest.tasks
    return tasks, {task.blob: blobs[task.blob] for task in tasks}


def on_disk(path):
    return {file.name: file.read_bytes() for file in path.glob("blobs/??/*")}


@pytest.mark.parametrize("kind", ["dgmw", "dgma"])
def test_once_the_last_task_is_erased_the_disk_holds_what_was_exported_before_it_was_learned(tmp_path, kind):
    with DataDir(tmp_path) as data:
        teach(data, kind, "digits", "t0", 0)
        before = exported(data, "digits")
        teach(data, kind, "digits", "t1", 1)
        learned = data.catalog.manifest("digits")
        gone = {learned.tasks[1].blob, learned.shared["solver"]}

        left = forget(data, "digits", "t1")

        tasks, blobs = in_export(before)
        found = on_disk(tmp_path)
        assert left.tasks == tasks
        assert not gone & set(found)
        assert found.pop(left.shared["solver"]) and found == blobs
        assert in_export(exported(data, "digits")) == (tasks, blobs)
        teach(data, kind, "digits", "t1", 1)
        assert data.catalog.manifest("digits").tasks[1].blob == learned.tasks[1].blob


@pytest.mark.parametrize("kind", ["dgmw", pytest.param("dgma", marks=pytest.mark.slow)])
def test_first_middle_and_last_task_go_one_by_one_after_an_import_and_restarts_and_the_original_stays(tmp_path, kind):
    with DataDir(tmp_path / "one") as data:
        teach(data, kind, "digits", "t0", 0, erasable=True)
        teach(data, kind, "digits", "t1", 1)
        teach(data, kind, "digits", "t2", 1, erasable=True)
        teach(data, kind, "digits", "t3", 3)
        file, original = exported(data, "digits"), on_disk(tmp_path / "one")
        manifest = data.catalog.manifest("digits")
    whole = {name: original[name] for name in manifest.digests}
    seeded = {task.task: bytes_of(manifest, whole, task.task) for task in manifest.tasks}
    assert "t1" in manifest.tasks[3].reuses, "with gates half open, a later task reuses something"

    with DataDir(tmp_path / "two") as data:
        for name in ("digits", "copy"):
            with data.arrival() as arrival:
                arrival.feed(file)
                arrival.keep(name)
        with pytest.raises(CannotForget, match="t3"):
            data.forget("digits", "t1")
    for task, rest in (("t2", "t0 t1 t3"), ("t0", "t1 t3"), ("t3", "t1"), ("t1", "")):
        with DataDir(tmp_path / "two") as data:
            left = forget(data, "digits", task)
            assert [entry.task for entry in left.tasks] == rest.split()
            assert {name: bytes_of(left, data.blobs, name) for name in rest.split()} == {
                name: seeded[name] for name in rest.split()
            }
            assert whole.items() <= on_disk(tmp_path / "two").items(), "the other memory holds the same blobs"
    with DataDir(tmp_path / "two") as data:
        teach(data, kind, "digits", "t2", 1)
        assert data.catalog.task("digits", "t2").state is TaskState.LEARNED
        for memory in ("copy", "digits"):
            data.delete_memory(memory)
        assert on_disk(tmp_path / "two") == {}
    assert on_disk(tmp_path / "one") == original
