import hashlib
import sqlite3
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from dgm_core.errors import CannotForget
from dgm_core.manifest import DataSpec, ExpertEntry, Learned, Manifest, Shared, TaskEntry
from memory_server.errors import (
    MemoryExists,
    TaskExists,
    TaskUnfinished,
    UnknownMemory,
    UnknownRevision,
    UnknownTask,
)
from memory_server.store import revisions
from memory_server.store.catalog import INTERRUPTED, Catalog
from memory_server.store.errors import NewerFormat
from memory_server.store.records import Census, Deleted, TaskRecord, TaskState

labels = st.integers(-(2**62), 2**62) | st.text(min_size=1, max_size=20)
entries = st.builds(
    TaskEntry,
    task=st.text(min_size=1, max_size=10),
    blob=st.text("0123456789abcdef", min_size=64, max_size=64),
    experts=st.lists(
        st.builds(ExpertEntry, st.just("e" * 64), st.lists(labels, max_size=4).map(tuple), st.just((1, 2))), max_size=3
    ).map(tuple),
    quality=st.floats(0, 1),
    steps=st.integers(0, 10**6),
    seconds=st.floats(0, 1e6),
    analysis=st.just({})
    | st.fixed_dictionaries(
        {
            "gate": st.text(max_size=5),
            "order": st.just([]),
            "layers": st.just({}),
            "trajectory": st.lists(
                st.fixed_dictionaries(
                    {"step": st.integers(0, 10**6), "slope": st.floats(0, 100), "occupancy": st.just({})}
                ),
                max_size=2,
            ),
            "parameters": st.integers(0, 2**62),
            "worst_case": st.integers(0, 2**62),
            "bytes": st.fixed_dictionaries(dict.fromkeys(("weights", "masks", "own"), st.integers(0, 10**6))),
        }
    ),
)


@pytest.fixture
def catalog(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite", clock=lambda: 1000.0)
    yield catalog
    catalog.close()


@pytest.fixture
def digits(catalog, manifest):
    catalog.create_memory("digits", manifest)
    return catalog


@pytest.fixture
def commit(digits, record, learn):
    """Commits tasks, each with a blob and an expert of its own and a solver that replayed the others."""

    def commit(*names, memory="digits", **learned):
        for name in names:
            digits.admit(record(name, memory=memory))
            own = {"expert": name * 32, "solver": f"solver {name}".encode(), **learned}
            own["revision"] = digits.manifest(memory).revision
            digits.commit(memory, name, learn(name, name.encode(), **own))
        return digits.manifest(memory)

    return commit


def blob(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@given(
    tasks=st.lists(entries, max_size=4, unique_by=lambda entry: entry.task),
    shared=st.dictionaries(labels.map(str), st.just("a" * 64)),
)
def test_a_manifest_survives_its_text_and_each_commit_adds_one_revision(tasks, shared):
    manifest = Manifest("dgmw", {"seed": "1"}, DataSpec((3, 32, 32), "uint8"))
    for revision, entry in enumerate(tasks, start=1):
        before = manifest.to_json()
        following = manifest.commit(Learned(entry, shared, {}, manifest.revision))
        assert manifest.to_json() == before
        assert following.revision == revision
        assert following.tasks[:-1] == manifest.tasks
        manifest = following
        assert Manifest.from_json(manifest.to_json()) == manifest
    for entry in tasks[:1]:
        with pytest.raises(ValueError, match="already"):
            manifest.commit(Learned(entry, {}, {}, manifest.revision))


def test_a_new_memory_is_empty_at_revision_0(digits, manifest):
    memory = digits.memory("digits")
    assert (memory.name, memory.manifest, memory.bytes, memory.created_unix_ms) == ("digits", manifest, 0, 1_000_000)


def test_a_taken_name_is_refused(digits, manifest):
    with pytest.raises(MemoryExists, match="digits"):
        digits.create_memory("digits", manifest)


def test_memories_are_listed_by_name(digits, manifest):
    digits.create_memory("birds", manifest)
    assert [memory.name for memory in digits.memories()] == ["birds", "digits"]


def test_a_census_counts_and_says_when_the_latest_memories_learned(digits, commit, manifest, record):
    assert digits.census(10) == Census(1, 0, 0, {})
    commit("t0")
    digits.create_memory("empty", manifest)
    digits.create_memory("later", manifest)
    digits._clock = lambda: 2000.0
    commit("t0", memory="later")
    digits.admit(record("t1"))
    census = digits.census(10)
    assert (census.memories, census.blobs) == (3, len(digits.digests())) and census.bytes > 0
    assert list(census.commits.items()) == [("later", 2_000_000), ("digits", 1_000_000)]
    assert list(digits.census(1).commits) == ["later"]


def test_memories_that_lack_what_they_share_are_found(digits, commit, manifest):
    digits.create_memory("birds", manifest)
    commit("t0", "t1")
    commit("t0", "t1", memory="birds")
    assert digits.incomplete() == []
    digits.forget("digits", "t1")
    lacking = [memory.name for memory in digits.memories() if not memory.manifest.complete]
    assert list(digits.incomplete()) == lacking == ["digits"]
    digits.forget("digits", "t0")
    assert digits.incomplete() == [], "what has learned nothing shares nothing"


def test_unknown_names_are_errors_that_carry_the_known_ones(digits, record):
    digits.admit(record("t0"))
    with pytest.raises(UnknownMemory, match="digits"):
        digits.memory("digit")
    with pytest.raises(UnknownTask, match="t0"):
        digits.task("digits", "t1")
    with pytest.raises(UnknownRevision, match=r"3.*0"):
        digits.manifest("digits", 3)
    with pytest.raises(UnknownMemory):
        digits.tasks("digit")


def test_the_first_task_makes_its_memory_in_the_same_transaction(catalog, manifest, record):
    task, admitted = catalog.admit(record("t0"), manifest)
    assert admitted
    assert task.state is TaskState.QUEUED
    assert task.created_unix_ms == 1_000_000
    assert catalog.manifest("digits") == manifest
    with pytest.raises(UnknownMemory):
        catalog.admit(record("t0", memory="birds"))


def test_two_first_tasks_may_race_to_make_the_memory_unless_they_differ(digits, manifest, record):
    other_seed = replace(manifest, options={"seed": "8"})
    assert digits.admit(record("t0"), other_seed)[1]
    assert digits.manifest("digits").seed == 7
    with pytest.raises(MemoryExists):
        digits.admit(record("t1"), replace(manifest, spec=DataSpec((4,), "float32")))


def test_the_same_task_with_the_same_data_is_the_task_that_is_there(digits, record):
    digits.admit(record("t0"))
    digits.set_state("digits", "t0", TaskState.LEARNING)
    task, admitted = digits.admit(record("t0"))
    assert not admitted
    assert task.state is TaskState.LEARNING
    with pytest.raises(TaskExists, match="t0"):
        digits.admit(record("t0", digest="d1"))


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELLED])
@pytest.mark.parametrize("digest", ["d0", "d1"])
def test_a_task_of_which_nothing_was_kept_is_queued_anew_behind_the_others(digits, record, state, digest):
    digits.admit(record("t0"))
    digits.admit(record("t1"))
    digits.set_state("digits", "t0", state, "why")
    task, admitted = digits.admit(record("t0", digest=digest))
    assert admitted
    assert (task.state, task.error, task.finished_unix_ms, task.digest) == (TaskState.QUEUED, "", 0, digest)
    assert [task.task for task in digits.tasks("digits")] == ["t1", "t0"]


def test_a_commit_makes_the_revision_visible_and_the_task_learned(digits, record, learn):
    digits.admit(record("t0"))
    committed = digits.commit("digits", "t0", learn("t0", b"four", solver=b"solver"))
    task = digits.task("digits", "t0")
    assert committed.task == task
    assert (task.state, task.revision, task.quality, task.steps, task.learn_seconds) == ("LEARNED", 1, 0.9, 10, 1.5)
    assert digits.manifest("digits") == committed.manifest
    assert digits.manifest("digits", 0).revision == 0
    assert digits.memory("digits").bytes == len(b"four") + len(b"solver")
    assert committed.unused == set()


def test_a_learned_task_is_never_said_to_have_failed(digits, record, learn):
    digits.admit(record("t0"))
    learned = digits.commit("digits", "t0", learn("t0", b"four")).task
    assert digits.set_state("digits", "t0", TaskState.FAILED, "late") == learned
    assert digits.task("digits", "t0") == learned


def test_a_commit_that_fails_changes_nothing(digits, record, learn, manifest):
    digits.admit(record("t0"))
    learned = learn("t0", b"four")
    with pytest.raises(Exception, match="FOREIGN KEY"):
        digits.commit("digits", "t0", replace(learned, blobs={}))
    assert digits.manifest("digits") == manifest
    assert digits.task("digits", "t0").state is TaskState.QUEUED
    assert digits.digests() == set()


def test_superseded_solvers_stay_for_one_revision_and_task_blobs_for_good(digits, record, learn):
    released = []
    for index in range(4):
        name = f"t{index}"
        digits.admit(record(name))
        learned = learn(name, name.encode(), solver=b"solver%d" % index, revision=index)
        released.append(digits.commit("digits", name, learned).unused)
    solvers = [digits.manifest("digits", revision).shared["solver"] for revision in (1, 2, 3, 4)]
    assert released == [set(), set(), {solvers[0]}, {solvers[1]}]
    assert digits.digests() == {*solvers[2:], *(task.blob for task in digits.manifest("digits").tasks)}


def test_deleting_a_memory_releases_what_no_other_memory_uses(digits, record, learn, manifest):
    digits.create_memory("birds", manifest)
    for memory, own in (("digits", b"digits"), ("birds", b"birds")):
        digits.admit(record("t0", memory=memory))
        digits.commit(memory, "t0", learn("t0", own, solver=b"the same solver"))
    own = digits.manifest("digits").tasks[0].blob
    assert digits.delete_memory("digits") == Deleted(frozenset({own}), experts=frozenset(), memories=("birds",))
    with pytest.raises(UnknownMemory):
        digits.tasks("digits")
    deleted = digits.delete_memory("birds")
    assert (len(deleted.unused), deleted.experts, deleted.memories) == (2, {"e" * 64}, ())
    assert digits.digests() == set()


def test_a_forgotten_task_is_in_no_revision_and_has_no_record(digits, commit):
    before = commit("t0", "t1", "t2")
    forgotten = digits.forget("digits", "t1")
    assert [entry.task for entry in forgotten.manifest.tasks] == ["t0", "t2"]
    assert digits.manifest("digits") == forgotten.manifest
    assert forgotten.manifest.revision == before.revision + 1
    assert forgotten.revisions == (0, 1, 4)
    for revision in (2, 3):
        with pytest.raises(UnknownRevision, match="0, 1, 4"):
            digits.manifest("digits", revision)
    with pytest.raises(UnknownTask):
        digits.task("digits", "t1")
    with pytest.raises(UnknownTask):
        digits.forget("digits", "t1")


def test_forgetting_releases_the_blob_of_the_task_and_every_solver(digits, commit):
    commit("t0", "t1", "t2")
    forgotten = digits.forget("digits", "t1")
    assert forgotten.unused == {blob(b"t1"), blob(b"solver t1"), blob(b"solver t2")}
    assert forgotten.experts == {"t1" * 32}
    assert digits.digests() == {blob(b"t0"), blob(b"t2")}
    assert not forgotten.manifest.complete


def test_the_first_revision_that_holds_a_later_task_is_then_the_new_one(digits, commit):
    commit("t0", "t1", "t2")
    digits.forget("digits", "t1")
    assert [(task.task, task.revision) for task in digits.tasks("digits")] == [("t0", 1), ("t2", 4)]


def test_forgetting_the_last_task_leaves_the_blobs_that_were_there_before_it(digits, commit):
    commit("t0", "t1")
    before = {entry.blob for entry in digits.manifest("digits").tasks}
    commit("t2")
    digits.forget("digits", "t2")
    assert digits.digests() == before


def test_what_another_memory_holds_too_stays(digits, commit, manifest):
    digits.create_memory("birds", manifest)
    commit("t0", "t1")
    commit("t0", memory="birds")
    forgotten = digits.forget("digits", "t0")
    assert blob(b"t0") not in forgotten.unused
    assert blob(b"solver t0") not in forgotten.unused
    assert forgotten.experts == set()
    assert digits.forget("birds", "t0").unused == {blob(b"t0"), blob(b"solver t0")}


def test_a_task_that_later_ones_reuse_is_not_forgotten_before_them(digits, commit):
    commit("t0")
    commit("t1", reuses=("t0",))
    before = commit("t2", reuses=("t0",)), digits.tasks("digits"), digits.digests()
    with pytest.raises(CannotForget, match="t1, t2"):
        digits.forget("digits", "t0")
    assert (digits.manifest("digits"), digits.tasks("digits"), digits.digests()) == before
    for task in ("t2", "t1", "t0"):
        digits.forget("digits", task)
    assert digits.manifest("digits").tasks == ()


@pytest.mark.parametrize("state", [TaskState.QUEUED, TaskState.LEARNING, TaskState.COMMITTING])
def test_a_task_that_is_not_finished_is_not_forgotten(digits, record, state):
    digits.admit(record("t0"))
    digits.set_state("digits", "t0", state)
    with pytest.raises(TaskUnfinished, match=state.value):
        digits.forget("digits", "t0")
    assert digits.task("digits", "t0").state is state


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELLED])
def test_forgetting_a_task_that_was_not_learned_removes_its_record_alone(digits, commit, record, state):
    before = commit("t0"), digits.digests()
    digits.admit(record("t1"))
    digits.set_state("digits", "t1", state)
    forgotten = digits.forget("digits", "t1")
    assert (forgotten.manifest, digits.digests()) == before
    assert (forgotten.unused, forgotten.experts) == (set(), set())
    assert [task.task for task in digits.tasks("digits")] == ["t0"]


def test_a_forgotten_name_may_be_taught_again(digits, commit):
    commit("t0")
    digits.forget("digits", "t0")
    assert [entry.task for entry in commit("t0").tasks] == ["t0"]


def test_what_a_memory_shares_is_made_anew_in_a_revision_of_its_own(digits, commit):
    commit("t0", "t1")
    digits.forget("digits", "t1")
    solver = Shared({"solver": blob(b"new")}, {blob(b"new"): b"new"})
    restored = digits.restore("digits", solver).manifest
    assert restored == digits.manifest("digits")
    assert (restored.revision, restored.complete) == (4, True)
    assert digits.digests() == {blob(b"t0"), blob(b"new")}
    with pytest.raises(UnknownMemory):
        digits.restore("birds", solver)


def test_a_catalog_that_fails_while_it_forgets_is_as_it_was(digits, commit, monkeypatch):
    before = commit("t0", "t1"), digits.tasks("digits"), digits.digests()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(revisions, "add_revision", full)
    with pytest.raises(OSError, match="No space"):
        digits.forget("digits", "t1")
    assert (digits.manifest("digits"), digits.tasks("digits"), digits.digests()) == before


def test_not_a_byte_of_a_forgotten_task_stays_in_the_files_of_the_catalog(digits, tmp_path, manifest):
    def traces():
        return [path.name for path in tmp_path.iterdir() if b"mrs-smith" in path.read_bytes()]

    for name in ("t0", "mrs-smith", "mrs-smith-too"):
        digits.admit(TaskRecord("digits", name, (0, 1), 11, name))
        entry = TaskEntry(name, blob(name.encode()), (), 1.0, 1, 1.0)
        digits.commit("digits", name, Learned(entry, {}, {entry.blob: b"weights"}, 0))
    assert traces()
    for name in ("mrs-smith", "mrs-smith-too"):
        digits.forget("digits", name)
    assert traces() == []


def test_each_commit_writes_as_much_however_many_tasks_there_are(digits, commit, tmp_path):
    rows, sizes = Counter(), {}
    for index in range(121):

        def count(_connection, cursor, statement, *_, index=index):
            rows[index] += 0 if statement.startswith("SELECT") else max(0, cursor.rowcount)

        event.listen(digits._database._engine, "after_cursor_execute", count)
        commit(f"t{index:03}")
        event.remove(digits._database._engine, "after_cursor_execute", count)
        sizes[index] = _size(tmp_path / "catalog.sqlite")
    assert len({rows[index] for index in range(4, 121)}) == 1
    assert rows[120] < 15
    assert sizes[120] - sizes[80] < 2 * (sizes[80] - sizes[40]) < 200_000


def _size(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT (SELECT * FROM pragma_page_count) * (SELECT * FROM pragma_page_size)").fetchone()[0]


def test_what_was_in_flight_when_the_server_stopped_has_failed(digits, record):
    for state in TaskState:
        digits.admit(record(state.value))
        digits.set_state("digits", state.value, state)
    assert digits.fail_interrupted() == 3
    states = {task.task: (task.state, task.error, task.error_reason) for task in digits.tasks("digits")}
    for name in ("QUEUED", "LEARNING", "COMMITTING"):
        assert states[name] == (TaskState.FAILED, INTERRUPTED, "TASK_INTERRUPTED")
    assert states["LEARNED"] == (TaskState.LEARNED, "", "")


def test_everything_is_there_after_a_restart(tmp_path, manifest, record, learn):
    first = Catalog(tmp_path / "catalog.sqlite")
    first.admit(record("t0"), manifest)
    committed = first.commit("digits", "t0", learn("t0", b"four"))
    before = first.memory("digits"), first.tasks("digits")
    first.close()
    second = Catalog(tmp_path / "catalog.sqlite")
    assert (second.memory("digits"), second.tasks("digits")) == before
    assert second.manifest("digits") == committed.manifest
    second.close()


def test_a_newer_format_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "catalog.sqlite"
    Catalog(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE schema_version SET version = 99")
    db.close()
    with pytest.raises(NewerFormat, match="99"):
        Catalog(path)


def test_only_the_owner_may_read_the_catalog(digits, tmp_path):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}


def test_many_threads_may_admit_at_once_and_each_task_is_admitted_once(digits, record):
    names = [f"t{index}" for index in range(12)] * 2
    with ThreadPoolExecutor(8) as pool:
        admitted = list(pool.map(lambda name: digits.admit(record(name))[1], names))
    assert sum(admitted) == 12
    assert len(digits.tasks("digits")) == 12
