"""`memory-server key`: what it writes, and with which exit status it ends."""

import os

import pytest
from typer.testing import CliRunner

from memory_server.maintenance.keys import key
from memory_server.store.datadir import DataDir
from memory_server.store.sealing import SealingKey


@pytest.fixture
def run():
    def invoke(*arguments):
        done = CliRunner().invoke(key, [*map(str, arguments)])
        return done.exit_code, done.stdout, done.stderr

    return invoke


@pytest.fixture
def keys(tmp_path, run):
    """Two key files."""
    paths = tmp_path / "old", tmp_path / "new"
    for path in paths:
        assert run("new", path)[0] == 0
    return paths


def test_a_new_key_is_written_once_and_not_shown(run, tmp_path):
    status, shown, _ = run("new", tmp_path / "key")
    secret = (tmp_path / "key").read_text().strip()
    assert (status, len(secret)) == (0, 64)
    assert secret not in shown and "keep a copy" in shown
    status, _, error = run("new", tmp_path / "key")
    assert status == 2 and "is there already" in error
    assert (tmp_path / "key").read_text().strip() == secret


def test_a_directory_changes_its_key(run, keys, tmp_path):
    DataDir(tmp_path / "data", master=SealingKey.read(keys[0])).close()
    arguments = ("rotate", "--old", keys[0], "--new", keys[1], "--data-dir", tmp_path / "data")
    assert run(*arguments)[0] == 0
    DataDir(tmp_path / "data", master=SealingKey.read(keys[1])).close()
    status, _, error = run(*arguments)
    assert status == 2 and "another key" in error


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_directory_whose_key_root_changes_stays_the_servers(run, keys, tmp_path):
    DataDir(tmp_path / "data", master=SealingKey.read(keys[0])).close()
    for path in (tmp_path / "data", *(tmp_path / "data").rglob("*")):
        os.chown(path, 65533, 65532)
    assert run("rotate", "--old", keys[0], "--new", keys[1], "--data-dir", tmp_path / "data")[0] == 0
    left = {(path.stat().st_uid, path.stat().st_gid) for path in (tmp_path / "data").rglob("*")}
    assert left == {(65533, 65532)}


@pytest.mark.parametrize(
    ("data", "why"), [("none", "is no data directory"), ("plain", "is not encrypted"), ("held", "in use by another")]
)
def test_a_directory_whose_key_cannot_change_says_why(run, keys, tmp_path, data, why):
    held = DataDir(tmp_path / "held", master=SealingKey.read(keys[0]))
    DataDir(tmp_path / "plain").close()
    status, _, error = run("rotate", "--old", keys[0], "--new", keys[1], "--data-dir", tmp_path / data)
    held.close()
    assert status == 2 and why in error
    assert not (tmp_path / "none").exists()
