"""A server that cannot start says why in one line and exits with status 2."""

import sqlite3
import subprocess
import sys

import pytest


def complaint(*arguments: object, timeout: float = 60) -> str:
    command = [sys.executable, "-m", "memory_server", "serve", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_a_port_that_is_taken(server, tmp_path):
    port = server.target.rsplit(":", 1)[1]
    said = complaint("--port", port, "--data-dir", tmp_path)
    assert f"127.0.0.1:{port}" in said and "--port 0" in said


def test_a_data_directory_in_use_by_another_server(server):
    said = complaint("--port", "0", "--data-dir", server.data_dir)
    assert "in use by another server" in said and str(server.process.pid) in said and "--data-dir" in said


def test_a_data_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    said = complaint("--port", "0", "--data-dir", tmp_path / "file" / "data")
    assert "cannot be written" in said and "--data-dir" in said


def test_a_data_directory_of_a_newer_format(new_server):
    server = new_server().start()
    server.stop()
    with sqlite3.connect(server.data_dir / "catalog.sqlite") as db:
        db.execute("UPDATE schema_version SET version = 1000")
    db.close()
    said = complaint("--port", "0", "--data-dir", server.data_dir)
    assert "format 1000" in said and "newer memory-server" in said


def test_a_device_that_is_not_there(tmp_path):
    assert "--device auto" in complaint("--port", "0", "--data-dir", tmp_path, "--device", "cuda:99")


def test_an_address_beyond_the_loopback_without_consent(tmp_path):
    said = complaint("--port", "0", "--data-dir", tmp_path, "--host", "0.0.0.0")
    assert "--tls-cert" in said and "--tokens" in said and "--insecure-expose" in said


def test_checkpoints_without_a_key_to_seal_them(tmp_path):
    said = complaint("--port", "0", "--data-dir", tmp_path, "--checkpoint-seconds", "60")
    assert "--checkpoint-seconds 60" in said and "--encryption-key-file" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "70000"), "--port 70000"),
        (("--grace-seconds", "-1"), "--grace-seconds -1"),
    ],
)
def test_a_setting_out_of_range(arguments, said, tmp_path):
    assert said in complaint(*arguments, "--data-dir", tmp_path)


def test_the_base_install_says_what_to_install():
    program = "import sys; sys.modules['torch'] = None; from memory_server.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "torch" in done.stderr and "pip install 'generative-memory[server]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
