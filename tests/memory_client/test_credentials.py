"""What a client shows: checked where it is given, told to nobody else, carried along."""

import asyncio
import pickle
import socket
from contextlib import nullcontext
from pathlib import Path

import grpc
import pytest
from memory_client import InvalidInput, Memory, NotAllowed, ServerUnavailable, TlsFailed, aio
from memory_client.cli.app import app
from memory_client.credentials import Credentials
from memory_client.errors import from_rpc
from typer.testing import CliRunner

from tests.certificates import Authority
from tests.memory_client.test_errors import Failure

PEM = Authority("ca").certificate
LOCAL = "localhost:1"
TEXT = "-----BEGIN PRIVATE KEY-----\nsecret"


@pytest.mark.parametrize("kind", [Memory, aio.Memory])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"certificate": PEM, "ca": PEM}, "certificate and key belong together"),
        ({"key": PEM, "ca": PEM}, "certificate and key belong together"),
        ({"certificate": PEM, "key": PEM}, "a client certificate needs TLS: pass ca="),
        ({"target": "memory.example:1", "token": "gmt_x"}, "memory.example:1 in plaintext: pass ca="),
        ({"ca": "/missing.pem"}, "ca='/missing.pem' cannot be read"),
        ({"ca": b"secret"}, "ca: the bytes is not PEM"),
        (
            {"ca": PEM, "certificate": PEM, "key": TEXT},
            "key is the PEM itself as text: pass a path, or the PEM as bytes",
        ),
        ({"ca": PEM, "certificate": PEM, "key": Path(TEXT)}, "key is the PEM itself as text"),
        ({"token": ""}, "the token is empty or malformed"),
        ({"token": "two words"}, "the token is empty or malformed"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_at_once(kind, given, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        kind(**{"target": LOCAL, **given})
    assert not any(secret in str(caught.value) for secret in ("gmt_x", "two words", "secret"))


def test_paths_and_bytes_are_taken_alike(tmp_path):
    (tmp_path / "ca.pem").write_bytes(PEM)
    for ca in (PEM, tmp_path / "ca.pem", str(tmp_path / "ca.pem")):
        assert Credentials.read(LOCAL, None, ca, None, None).ca == PEM


def test_secrets_travel_with_a_pickled_memory_and_show_nowhere():
    memory = Memory("memory.example:1", token="gmt_secret", ca=PEM, certificate=PEM, key=PEM)
    credentials = memory._connection._credentials
    assert "gmt_secret" not in repr(memory) + repr(credentials) and "BEGIN" not in repr(credentials)
    assert pickle.loads(pickle.dumps(memory))._connection._credentials == credentials


@pytest.fixture
def proxy(monkeypatch):
    """A listening socket that the environment names as the proxy of everything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{listening.getsockname()[1]}")
        for name in ("no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield listening


@pytest.mark.parametrize("secrets", [{}, {"token": "gmt_secret"}, {"ca": PEM}])
@pytest.mark.parametrize("kind", [Memory, aio.Memory])
def test_a_server_on_this_host_is_reached_past_any_proxy(kind, secrets, taught, server, proxy):
    memory = kind(server.target, "digits", timeout=5, reconnect=0, **secrets)

    async def tasks():
        async with memory:
            return await memory.tasks()

    with pytest.raises(TlsFailed) if "ca" in secrets else nullcontext():  # the server speaks plaintext
        assert (asyncio.run(tasks()) if kind is aio.Memory else memory.tasks()) == taught.tasks()
    with pytest.raises(BlockingIOError):
        proxy.accept()


def failed(text):
    text = f"failed to connect to all addresses; last error: {text}"
    return from_rpc(Failure(grpc.StatusCode.UNAVAILABLE, text), "host:1")


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", TlsFailed, "must be renewed"),
        ("CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate", TlsFailed, "no authority in ca"),
        ("Hostname Verification Check failed.", TlsFailed, "not for this host"),
        ("SSL_ERROR_SSL: WRONG_VERSION_NUMBER", TlsFailed, "leave ca out"),
        ("UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed", ServerUnavailable, "If it speaks TLS, pass ca="),
        ("UNKNOWN: Connection refused", ServerUnavailable, "Connection refused"),
    ],
)
def test_a_connection_that_fails_says_what_to_do(text, kind, said):
    error = failed(text)
    assert type(error) is kind and said in str(error) and "host:1" in str(error)


def test_the_terminal_takes_the_token_from_a_file_or_the_environment(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(Memory, "list", staticmethod(lambda *_, **given: seen.append(given["token"]) or []))
    (tmp_path / "token").write_text("gmt_file\n")
    variables = [{}, {"MEMORY_TOKEN": ""}, {"MEMORY_TOKEN": "gmt_variable"}]
    for arguments, environment in [*(([], variable) for variable in variables), (["--token-file"], {})]:
        given = [*arguments, *([str(tmp_path / "token")] if arguments else [])]
        assert CliRunner().invoke(app, ["memories", *given], env=environment).exit_code == 0
    assert seen == [None, None, "gmt_variable", "gmt_file"]
    missing = CliRunner().invoke(app, ["memories", "--token-file", "/missing"])
    assert missing.exit_code == 1 and "/missing" in missing.output
    (tmp_path / "token").write_text("gmt_file", "utf-16")
    unread = CliRunner().invoke(app, ["memories", "--token-file", str(tmp_path / "token")])
    assert unread.exit_code == 1 and "is no plain text" in unread.stderr and "gmt_file" not in unread.stderr


def test_a_refusal_says_whom_to_ask():
    error = from_rpc(Failure(grpc.StatusCode.PERMISSION_DENIED, "no right"), "host:1")
    assert type(error) is NotAllowed and "Ask the server's operator" in str(error)
