"""A generator that is retrained: entries of earlier tasks are revised, and what was before is gone."""

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.errors import CannotForget
from dgm_core.manifest import DataSpec, Learned, Manifest, Shared, TaskEntry
from memory_server.errors import UnknownRevision
from memory_server.store.datadir import DataDir
from memory_server.store.errors import DataDirError
from memory_server.store.sealing import SealingKey

EMPTY = Manifest("dgmw", {"seed": "7"}, DataSpec((1, 8, 8), "uint8"))


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# In a manifest


def entry(task: str, blob: str = "a", consolidated: bool = False) -> TaskEntry:
    return TaskEntry(task, blob * 64, (), 1.0, 1, 1.0, consolidated=consolidated)


@given(names=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6, unique=True), data=st.data())
def test_revised_entries_stand_where_those_of_their_names_stood(names, data):
    manifest = replace(EMPTY, tasks=tuple(map(entry, names)), revision=len(names), shared={"solver": "s" * 64})
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True))
    revised = tuple(entry(name, "b", consolidated=True) for name in chosen)
    learned = manifest.commit(Learned(entry("the new one"), {}, {}, manifest.revision, revised))
    slept = manifest.restored(Shared({"solver": "t" * 64}, {}, revised))
    for after in (learned, slept):
        assert [each.task for each in after.tasks[: len(names)]] == names
        assert {each.task for each in after.tasks if each.consolidated} == set(chosen)
        assert {each.task for each in after.tasks if each.blob == "b" * 64} == set(chosen)
        assert after.revision == manifest.revision + 1
        assert Manifest.from_json(after.to_json()) == after
    assert (learned.tasks[-1].task, slept.shared) == ("the new one", {"solver": "t" * 64})


def test_a_task_that_is_not_there_is_not_revised():
    manifest = replace(EMPTY, tasks=(entry("t0"),))
    for renew in (
        lambda: manifest.commit(Learned(entry("t1"), {}, {}, 0, (entry("t9"),))),
        lambda: manifest.restored(Shared({}, {}, (entry("t9"),))),
    ):
        with pytest.raises(ValueError, match="no task of this manifest is named t9"):
            renew()


def test_a_consolidated_task_is_not_taken_out_and_others_are():
    manifest = replace(EMPTY, tasks=(entry("t0", consolidated=True), entry("t1")))
    with pytest.raises(CannotForget, match=r"task t0 cannot be forgotten: it is consolidated .*delete the memory"):
        manifest.without("t0")
    assert [each.task for each in manifest.without("t1").tasks] == ["t0"]


# On disk


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def open_data(tmp_path, request):
    """Opens the same data directory each time."""
    master = SealingKey.from_text("5e" * 32) if request.param else None
    return lambda: DataDir(tmp_path / "data", master=master)


@pytest.fixture
def teach(record, learn):
    """Commits tasks, each with a blob, an expert and a solver of its own."""

    def teach(data, *names):
        for name in names:
            data.catalog.admit(record(name), EMPTY)
            own = {"expert": name * 32, "solver": f"solver {name}".encode()}
            revision = data.catalog.manifest("digits").revision
            data.commit("digits", name, learn(name, name.encode(), **own, revision=revision))
        return data.catalog.manifest("digits")

    return teach


def retrained(manifest: Manifest, content: bytes) -> tuple[TaskEntry, ...]:
    """The entries of all tasks once one generator holds them."""
    own = [replace(each.experts[0], digest=sha(content + each.task.encode())) for each in manifest.tasks]
    return tuple(
        replace(each, blob=sha(content), experts=(expert,), consolidated=True)
        for each, expert in zip(manifest.tasks, own, strict=True)
    )


def sleep(data, content=b"long"):
    """Consolidates all tasks into one blob beside a new solver."""
    manifest = data.catalog.manifest("digits")
    solver = b"solver after " + content
    blobs = {sha(content): content, sha(solver): solver}
    return data.restore(
        "digits", manifest.revision, Shared({"solver": sha(solver)}, blobs, retrained(manifest, content))
    )


def test_after_a_sleep_there_is_the_new_revision_alone_and_what_only_older_ones_needed_is_gone(open_data, teach):
    with open_data() as data:
        before = teach(data, "t0", "t1")
        slept = sleep(data)
        assert slept.manifest == data.catalog.manifest("digits")
        assert slept.manifest.revision == before.revision + 1
        assert slept.forgotten.revisions == (slept.manifest.revision,)
        assert slept.forgotten.experts == {"t0" * 32, "t1" * 32}
        assert set(data.blobs.values()) == {b"long", b"solver after long"}
        assert data.catalog.digests() == set(data.blobs)
        for older in range(slept.manifest.revision):
            with pytest.raises(UnknownRevision):
                data.catalog.manifest("digits", older)


def test_records_say_what_is_consolidated_and_in_which_revision(open_data, teach):
    with open_data() as data:
        teach(data, "t0", "t1")
        assert not any(task.consolidated for task in data.catalog.tasks("digits"))
        slept = sleep(data).manifest
        teach(data, "t2")
        tasks = data.catalog.tasks("digits")
        assert [(task.task, task.consolidated) for task in tasks] == [("t0", True), ("t1", True), ("t2", False)]
        assert [task.revision for task in tasks] == [slept.revision] * 2 + [slept.revision + 1]
        assert data.catalog.task("digits", "t0").consolidated


def test_a_task_that_retrains_the_generator_revises_the_others_in_its_own_commit(open_data, teach, record, learn):
    with open_data() as data:
        manifest = teach(data, "t0", "t1")
        data.catalog.admit(record("t2"))
        learned = learn("t2", b"whole", solver=b"solver whole", expert="2" * 64, revision=manifest.revision)
        own = replace(learned.entry, consolidated=True)
        committed = data.commit("digits", "t2", replace(learned, entry=own, revised=retrained(manifest, b"whole")))
        assert committed.task.consolidated
        assert [each.blob for each in committed.manifest.tasks] == [sha(b"whole")] * 3
        assert committed.forgotten.revisions == (committed.manifest.revision,)
        assert set(data.blobs.values()) == {b"whole", b"solver whole"}
        assert committed.manifest == data.catalog.manifest("digits")
    with open_data() as data:
        assert data.catalog.manifest("digits") == committed.manifest


def test_it_is_all_there_when_the_directory_is_opened_again_and_may_be_done_again(open_data, teach):
    with open_data() as data:
        teach(data, "t0", "t1")
        slept = sleep(data).manifest
    with open_data() as data:
        assert data.catalog.manifest("digits") == slept
        teach(data, "t2")
        again = sleep(data, b"longer").manifest
        assert [each.blob for each in again.tasks] == [sha(b"longer")] * 3
        assert set(data.blobs.values()) == {b"longer", b"solver after longer"}
    with open_data() as data:
        assert data.catalog.manifest("digits") == again
        assert data.blobs[sha(b"longer")] == b"longer"


def test_a_revised_entry_that_was_tampered_with_is_noticed(open_data, teach, tmp_path):
    with open_data() as data:
        teach(data, "t0", "t1")
        sleep(data)
    with closing(sqlite3.connect(tmp_path / "data/catalog.sqlite")) as connection, connection as db:
        changed = db.execute("UPDATE entries SET entry = replace(entry, 'true', 'false') WHERE task = 't0'")
        assert changed.rowcount == 1
    with pytest.raises(DataDirError, match="the entry of task 't0' of memory 'digits' was changed"), open_data():
        pass


def test_what_another_memory_holds_too_stays(open_data, teach):
    with open_data() as data:
        teach(data, "t0")
        data.catalog.import_memory("copy", data.catalog.export_memory("digits"))
        sleep(data)
        assert set(data.blobs.values()) == {b"t0", b"solver t0", b"long", b"solver after long"}
        assert not data.catalog.task("copy", "t0").consolidated


def test_a_sleep_upon_a_revision_that_is_no_longer_the_newest_changes_nothing(open_data, teach):
    with open_data() as data:
        manifest = teach(data, "t0", "t1")
        late = Shared({"solver": sha(b"late")}, {sha(b"late"): b"late"}, retrained(manifest, b"late"))
        assert data.restore("digits", manifest.revision - 1, late) is None
        assert data.catalog.manifest("digits") == manifest


def test_a_consolidated_task_cannot_be_forgotten_and_stays(open_data, teach):
    with open_data() as data:
        teach(data, "t0", "t1")
        slept = sleep(data).manifest
        with pytest.raises(CannotForget, match="it is consolidated"):
            data.forget("digits", "t0")
        assert data.catalog.manifest("digits") == slept
        after = teach(data, "t2")
        forgotten = data.forget("digits", "t2")
        assert forgotten.manifest.tasks == after.tasks[:2]
        assert forgotten.revisions[0] == slept.revision


@pytest.mark.parametrize("instant", ["blobs", "catalog"])
def test_a_sleep_that_cannot_be_stored_changes_nothing(open_data, teach, monkeypatch, instant):
    with open_data() as data:
        before = teach(data, "t0", "t1")
        held = set(data.blobs.values())

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            if instant == "blobs":
                patch.setattr(data.blobs, "put", full)
            else:
                patch.setattr("memory_server.store.revisions.add_revision", full)
            with pytest.raises(Exception, match=r"space|stored|disk"):
                sleep(data)
        assert data.catalog.manifest("digits") == before
        assert held <= set(data.blobs.values())
        assert sleep(data).manifest.revision == before.revision + 1
