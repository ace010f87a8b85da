"""Tokens: how they are kept, found, revoked, and what a file of them must be."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
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


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_file_that_is_open_to_others_is_refused(path, mode):
    tokens.add(path, "alice", [Right.SAMPLE], ["*"], None)
    path.chmod(mode)
    with pytest.raises(CannotStart, match=f"its mode is {mode:04o}.*chmod 0600"):
        tokens.read(path)


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
