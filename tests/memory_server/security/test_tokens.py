"""Tokens: how they are kept, found, revoked, and what a file of them must be."""

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from memory_server.errors import CannotStart
from memory_server.security import tokens
from memory_server.security.command import token as command
from memory_server.security.following import Following
from memory_server.security.rights import Right

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.json"


def find(path, token, at=NOW):
    return tokens.read(path).find(tokens.digest_of(token), at)


def test_the_file_is_for_its_owner_and_holds_no_token(path):
    token = tokens.add(path, "alice", [Right.SAMPLE], ["digits*"], None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text() and token.removeprefix(tokens.PREFIX) not in path.read_text()
    assert len(token) > 40
    found = find(path, token)
    assert found.name == "alice" and found.grant.allows({Right.SAMPLE}, "digits-1")
    assert list(path.parent.iterdir()) == [path]


def test_a_token_is_found_by_all_of_it_alone(path):
    token = tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    for other in ("", token[:-1], token + "x", token.upper(), token.removeprefix(tokens.PREFIX)):
        assert find(path, other) is None


def test_a_token_is_good_until_it_expires(path):
    token = tokens.add(path, "alice", [Right.SAMPLE], ["*"], NOW)
    assert find(path, token, NOW - timedelta(microseconds=1)) is not None
    assert find(path, token, NOW) is None


def test_a_name_is_given_once(path):
    tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    with pytest.raises(CannotStart, match="alice: there is such a token"):
        tokens.add(path, "alice", [Right.ADMIN], ["*"], None)


def test_who_adds_at_one_time_loses_nothing(path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda k: tokens.add(path, f"n{k}", [Right.SAMPLE], ["*"], None), range(16)))
    assert all(find(path, token) is not None for token in made)


def test_a_revoked_token_is_gone_and_others_stay(path):
    gone, stays = (tokens.add(path, name, [Right.SAMPLE], ["*"], None) for name in ("gone", "stays"))
    followed = Following([path], lambda: tokens.read(path))
    assert followed.value.find(tokens.digest_of(gone), NOW)
    tokens.revoke(path, "gone")
    assert followed.value.find(tokens.digest_of(gone), NOW) is None
    assert followed.value.find(tokens.digest_of(stays), NOW)
    with pytest.raises(CannotStart, match=r"no token gone; the tokens in .* are: stays"):
        tokens.revoke(path, "gone")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o601])
def test_a_file_that_is_open_to_others_is_refused(path, mode):
    tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    path.chmod(mode)
    with pytest.raises(CannotStart, match=f"its mode is {mode:04o}.*chmod 06[04]0"):
        tokens.read(path)


SERVER, GROUP = 65533, 65532
AS_SERVER = f"""
import os, sys
from pathlib import Path
import structlog
from memory_server.security import tokens
from memory_server.security.following import Following
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
path = Path(sys.argv[1])
os.setgroups([])
os.setgid({GROUP})
os.setuid({SERVER})
followed = Following([path], lambda: tokens.read(path))
for line in sys.stdin:
    print(followed.value.find(tokens.digest_of(line.strip()), tokens.now()) is not None, flush=True)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def shared_folder():
    """A directory that a server of another user can enter, as it could not enter `tmp_path`."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@as_root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "folders"),
    [(SERVER, GROUP, 0o600, SERVER), (SERVER, 0, 0o400, 0), (0, GROUP, 0o440, 0), (0, GROUP, 0o640, 0)],
)
def test_what_root_revokes_and_adds_is_followed_by_a_server_of_another_user(shared_folder, owner, group, mode, folders):
    path = shared_folder / "tokens.json"
    stays, gone = (tokens.add(path, name, [Right.SAMPLE], ["*"], None) for name in ("stays", "gone"))
    os.chown(shared_folder, folders, folders)
    os.chown(path, owner, group)
    path.chmod(mode)
    arguments = [sys.executable, "-c", AS_SERVER, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def takes(token):
            print(token, file=server.stdin, flush=True)
            return server.stdout.readline().strip() == "True"

        assert takes(stays) and takes(gone)
        tokens.revoke(path, "gone")
        assert takes(stays) and not takes(gone)
        assert takes(tokens.add(path, "new", [Right.SAMPLE], ["*"], None))
        server.stdin.close()
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (owner, group, mode)
    assert server.returncode == 0


@as_root
def test_the_first_token_that_root_adds_is_for_whom_the_directory_belongs_to(path):
    os.chown(path.parent, SERVER, GROUP)
    tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (SERVER, GROUP, 0o600)


def test_a_file_that_cannot_be_given_to_its_owner_is_left_as_it_was(path, monkeypatch):
    tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    before = path.read_bytes()

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(CannotStart, match="nothing was changed: do this as the file's owner, or as root"):
        tokens.revoke(path, "alice")
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_an_access_list_is_passed_on(path, monkeypatch):
    tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    given = []
    monkeypatch.setattr(os, "getxattr", lambda of, name: b"list of " + of.name.encode() + name.encode())
    monkeypatch.setattr(os, "setxattr", lambda _, name, value: given.append((name, value)))
    tokens.revoke(path, "alice")
    name = "system.posix_acl_access"
    assert given == [(name, b"list of tokens.json" + name.encode())]


def test_a_link_is_not_replaced_for_the_server_reads_what_it_names(path):
    tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    link = path.with_name("link.json")
    link.symlink_to(path)
    with pytest.raises(CannotStart, match="symbolic link; name the file itself"):
        tokens.revoke(link, "alice")
    assert link.is_symlink() and tokens.read(path).tokens


def test_a_file_that_cannot_be_read_leaves_what_was_read_in_force_and_the_log_says_what_to_do(path):
    token = tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    followed = Following([path], lambda: tokens.read(path))
    away = path.rename(path.with_name("away"))
    with capture_logs() as lines:
        assert followed.value.find(tokens.digest_of(token), NOW)
        assert followed.value.find(tokens.digest_of(token), NOW)
    (line,) = lines
    assert (line["log_level"], line["event"], line["files"]) == ("error", "kept what was read before", [str(path)])
    assert "revoked" in line["remedy"] and f"readable for the server's user, {os.geteuid()}" in line["remedy"]
    away.rename(path)
    tokens.revoke(path, "alice")
    assert followed.value.find(tokens.digest_of(token), NOW) is None


def test_a_file_that_is_made_readable_again_is_read_though_its_content_is_no_newer(path):
    token = tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    followed = Following([path], lambda: tokens.read(path))
    tokens.revoke(path, "alice")
    path.chmod(0o666)
    assert followed.value.find(tokens.digest_of(token), NOW), "others may write it, so it is not taken"
    time.sleep(0.05)  # the clock of the file system is coarse
    path.chmod(0o600)
    assert followed.value.find(tokens.digest_of(token), NOW) is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"tokens": [{"name": "a"}]}', '{"tokens": [], "more": 1}', '{"tokens": [{"sha256": "s3cret"}]}'],
)
def test_a_file_that_makes_no_sense_is_refused_without_repeating_it_and_changes_nothing(path, content):
    token = tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    followed = Following([path], lambda: tokens.read(path))
    path.write_text(content)
    with pytest.raises(CannotStart, match=r"--tokens .*; write it with memory-server token add") as caught:
        tokens.read(path)
    assert "s3cret" not in str(caught.value)
    assert followed.value.find(tokens.digest_of(token), NOW)


def test_the_command_line_adds_lists_and_revokes(path):
    def run(*arguments, fails=False):
        done = CliRunner().invoke(command, [arguments[0], "--tokens", str(path), *arguments[1:]])
        assert done.exit_code == (2 if fails else 0), done.output
        return done.output.strip()

    given = ("--memory", "digits*", "--memory", "pets", "--right", "sample", "--expires", "2027-01-31")
    token = run("add", "--name", "alice", *given)
    assert find(path, token, datetime(2027, 1, 31, 23, 59, tzinfo=UTC)).name == "alice"
    assert find(path, token, datetime(2027, 2, 1, tzinfo=UTC)) is None
    assert run("list") == "alice: sample on digits*, pets, until 2027-02-01T00:00:00+00:00"
    assert json.loads(run("list", "--json"))[0]["memories"] == ["digits*", "pets"]
    assert "sha256" not in run("list", "--json")
    assert "--name: " in run("add", "--name", "a b", "--memory", "*", "--right", "learn", fails=True)
    assert "--memory '/'" in run("add", "--name", "bob", "--memory", "/", "--right", "learn", fails=True)
    assert run("revoke", "--name", "alice") == "revoked alice"
    assert "no token alice" in run("revoke", "--name", "alice", fails=True)


def test_a_file_of_tokens_that_is_not_there_is_refused_with_what_writes_one(path):
    with pytest.raises(CannotStart, match=r"No such file.*memory-server token add writes"):
        tokens.read(path)
