"""`memory-server check`: what it finds, and with which exit status it ends."""

import hashlib
import json
import sqlite3
from contextlib import closing

import pytest
import typer
from typer.testing import CliRunner

from dgm_core.manifest import DataSpec, Learned, Manifest, TaskEntry
from memory_server.maintenance.check import check
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskRecord
from memory_server.store.sealing import SealingKey

WEIGHTS = b"weights" * 9
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(check)

    def invoke(*arguments):
        done = CliRunner().invoke(app, [*map(str, arguments)])
        return done.exit_code, done.stdout, done.stderr

    return invoke


def teach(path, master=None):
    with DataDir(path, master=master) as data:
        data.admit(
            TaskRecord("digits", "t0", (0,), 1, "d"), Manifest("dgmw", {"seed": "7"}, DataSpec((1, 8, 8), "uint8"))
        )
        data.commit("digits", "t0", Learned(TaskEntry("t0", DIGEST, (), 1.0, 1, 1.0), {}, {DIGEST: WEIGHTS}, 0))
    return path / "blobs" / DIGEST[:2] / DIGEST


@pytest.fixture
def blob(tmp_path):
    return teach(tmp_path / "data")


def found(run, path, *arguments):
    status, shown, _ = run("--data-dir", path, "--json", *arguments)
    answer = json.loads(shown)
    assert (status == 0) == answer["sound"]
    return status, [(each["what"], each["problem"]) for each in answer["findings"]]


def test_a_sound_directory_is_said_to_be_so_and_left_as_it_is(run, blob, tmp_path):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, shown, _ = run("--data-dir", tmp_path / "data")
    assert (status, "is sound" in shown) == (0, True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("damage", ["damaged", "missing"])
def test_a_blob_that_is_not_to_be_had_is_named_with_what_needs_it(run, blob, tmp_path, damage):
    blob.unlink() if damage == "missing" else blob.write_bytes(b"x")
    assert found(run, tmp_path / "data") == (
        1,
        [("blob", f"it is {damage}, and task 't0' of memory 'digits' needs it")],
    )
    assert not (tmp_path / "data" / "quarantine").exists()


def test_what_a_crash_left_is_harmless(run, blob, tmp_path):
    (blob.parent / f"{DIGEST[:2]}{'0' * 62}").touch(0o600)
    (blob.parent / "half.unfinished").touch(0o600)
    status, findings = found(run, tmp_path / "data")
    assert (status, [what for what, _ in findings]) == (0, ["orphan", "unfinished"])


def test_files_that_others_may_read_are_named(run, blob, tmp_path):
    blob.chmod(0o644)
    blob.parent.chmod(0o750)
    (tmp_path / "data" / "bases").mkdir(mode=0o755)
    status, shown, _ = run("--data-dir", tmp_path / "data")
    assert status == 1
    assert f"chmod go= {blob}" in shown and "mode 0750" in shown and "bases" not in shown


def test_a_damaged_catalog_is_a_finding(run, blob, tmp_path):
    with closing(sqlite3.connect(tmp_path / "data" / "catalog.sqlite")) as db, db:
        db.execute("UPDATE entries SET entry = replace(entry, '1.0', '0.5')")
    assert found(run, tmp_path / "data") == (1, [("catalog", "the entry of task 't0' of memory 'digits' was changed")])
    (tmp_path / "data" / "catalog.sqlite").write_bytes(b"no database" * 100)
    assert found(run, tmp_path / "data") == (1, [("catalog", "file is not a database")])


def test_a_deep_look_derives_what_was_learned(run, tmp_path):
    with DataDir(tmp_path / "data") as data:
        entry = TaskEntry("t0", DIGEST, (), 1.0, 1, 1.0)
        manifest = Manifest("dgmw", {"seed": "7", "width": "x"}, DataSpec((1, 8, 8), "uint8"), 1, (entry,))
        data.create_memory("digits", manifest, {DIGEST: WEIGHTS})
    assert found(run, tmp_path / "data")[0] == 0
    status, findings = found(run, tmp_path / "data", "--deep")
    assert status == 1 and "what is derived is not what was learned" in dict(findings)["expert"]


def test_a_memory_of_a_kind_that_this_version_does_not_have_is_named_and_not_derived(run, tmp_path):
    with DataDir(tmp_path / "data") as data:
        data.create_memory("digits", Manifest("ppca", {"seed": "7"}, DataSpec((1, 8, 8), "uint8")))
    expected = [("memory", "it is of kind 'ppca', which this version does not have")]
    assert found(run, tmp_path / "data") == (1, expected)
    assert found(run, tmp_path / "data", "--deep") == (1, expected)


def test_a_directory_that_a_server_holds_or_that_is_none_or_needs_a_key_ends_with_2(run, tmp_path):
    with DataDir(tmp_path / "data"):
        status, _, error = run("--data-dir", tmp_path / "data")
        assert status == 2 and "in use by another server" in error
    status, _, error = run("--data-dir", tmp_path / "none")
    assert status == 2 and "is no data directory" in error
    teach(tmp_path / "sealed", SealingKey.new())
    status, _, error = run("--data-dir", tmp_path / "sealed")
    assert status == 2 and "is encrypted; give its key" in error


def test_an_encrypted_directory_is_checked_with_its_key(run, tmp_path):
    master = SealingKey.new()
    blob = teach(tmp_path / "data", master)
    master.write(tmp_path / "key")
    assert found(run, tmp_path / "data", "--encryption-key-file", tmp_path / "key") == (0, [])
    sealed = blob.read_bytes()
    blob.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert found(run, tmp_path / "data", "--encryption-key-file", tmp_path / "key")[0] == 1
