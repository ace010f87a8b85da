"""A server that asks for certificates and tokens: who is refused, what they hear, what is written down."""

import json
import os
import pickle
import signal
import threading
from collections import deque
from datetime import UTC, datetime
from functools import partial

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub
from memory_client import (
    Memory,
    NotAllowed,
    NotAuthenticated,
    ServerBusy,
    ServerUnavailable,
    TlsFailed,
    UnknownMemory,
    aio,
)
from typer.testing import CliRunner

from memory_server.__main__ import application
from memory_server.security import tokens
from memory_server.security.rights import Right
from tests.certificates import DAY, Authority
from tests.conftest import ServerProcess, Wire, images

SMALL = {"kind": "dgmw", "options": {"width": 4, "noise": 8}}
RAW = "authorization"


class Secured:
    """A server with everything on, and those who call it."""

    def __init__(self, home):
        self.ca, self.strangers = Authority("ca"), Authority("strangers")
        self.client = self.ca.certify("client-7")
        self.files = home / "tls"
        cert, key = self.ca.certify("server", ("localhost",)).write(self.files, "server")
        authority, _ = self.client.write(self.files, "authority")
        authority.write_bytes(self.ca.certificate)
        self.tokens, self.audited = home / "tokens.json", home / "audit.jsonl"
        self.alice = tokens.add(self.tokens, "alice", [Right.LEARN, Right.SAMPLE], ["digits*"], None)
        self.bob = tokens.add(self.tokens, "bob", [Right.SAMPLE], ["pets", "birds"], None)
        self.root = tokens.add(self.tokens, "root", [Right.ADMIN], ["*"], None)
        self.late = tokens.add(self.tokens, "late", [Right.ADMIN], ["*"], datetime(2020, 1, 1, tzinfo=UTC))
        self.config = home / "server.toml"
        self.config.write_text("log_level = 'info'")
        files = {"config": self.config, "tls_cert": cert, "tls_key": key, "tls_client_ca": authority}
        self.server = ServerProcess(
            home, tokens=self.tokens, audit_log=self.audited, client_streams=3, metrics_port=0, **files
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GRPC_VERBOSITY", "INFO")  # has gRPC say why a handshake failed
            self.server.start()

    def memory(self, name="digits-1", client=Memory, **changed):
        """What alice has, but for what is changed."""
        given = {"token": self.alice, "ca": self.ca.certificate, "reconnect": 0, **SMALL}
        given |= {"certificate": self.client.certificate, "key": self.client.key, **changed}
        return client(self.server.target.replace("127.0.0.1", "localhost"), name, **given)

    def audit(self, **wanted):
        """Lines of the audit log that say all this."""
        lines = map(json.loads, self.audited.read_text().splitlines())
        return [line for line in lines if wanted.items() <= line.items()]

    def channel(self):
        credentials = grpc.ssl_channel_credentials(self.ca.certificate, self.client.key, self.client.certificate)
        return grpc.secure_channel(self.server.target, credentials)


def without_id(error):
    """What an error says, without the id of the request."""
    assert error.request_id in str(error)
    return str(error).replace(error.request_id, "ID")


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    made = Secured(tmp_path_factory.mktemp("secured"))
    with made.memory() as memory:
        memory.learn_task(images(), "t0", steps=10, progress=False)
    yield made
    made.server.end()


def test_who_has_certificate_token_and_right_learns_and_samples(secured, eventually):
    with secured.memory() as memory:
        x, _ = memory.sample(n=600)
        memory.classify(x)
        assert [task.name for task in memory.tasks()] == ["t0"]
    eventually(lambda: len(secured.audit(event="end", rows=600)) == 2)  # noted when the server has ended it
    (begun,), ended = secured.audit(event="begin", action="sample"), secured.audit(event="end", rows=600)
    assert {"client": "alice", "certificate": "CN=client-7", "peer": "127.0.0.1"}.items() <= begun.items()
    assert ended[0]["call"] == begun["call"] and (ended[0]["code"], ended[0]["revision"]) == ("OK", 1)
    assert secured.audit(event="begin", call=ended[1]["call"], action="classify", memory="digits-1")
    (learned,) = secured.audit(event="begin", action="learn")
    (ended,) = secured.audit(event="end", call=learned["call"])
    assert (learned["client"], learned["tasks"], ended["rows"]) == ("alice", ["t0"], 40)
    assert datetime.fromisoformat(learned["time"]).tzinfo is not None


@pytest.mark.parametrize("token", [None, "gmt_wrong", "late"])
def test_without_a_valid_token_every_call_is_refused_in_the_same_words(secured, token):
    token = secured.late if token == "late" else token
    before = len(secured.audit(event="refused", code="UNAUTHENTICATED"))
    said = set()
    for name in ("digits-1", "nothing"):
        with secured.memory(name, token=token) as memory:
            for call in (memory.sample, memory.describe, memory.delete, partial(memory.learn_task, images(), "t9")):
                with pytest.raises(NotAuthenticated) as caught:
                    call()
                said.add(without_id(caught.value))
    assert len(said) == 1 and "token" in said.pop()
    refused = secured.audit(event="refused", code="UNAUTHENTICATED")[before:]
    assert len(refused) == 8 and {line["client"] for line in refused} == {"CN=client-7"}


def test_with_rights_for_another_memory_nothing_is_revealed_about_what_exists(secured):
    said = []
    for name in ("digits-1", "nothing1"):
        with secured.memory(name, token=secured.bob) as memory, pytest.raises(NotAllowed) as caught:
            memory.sample(n=1)
        said.append(without_id(caught.value).replace(name, "NAME"))
        assert secured.audit(event="refused", client="bob", memory=name, action="sample", code="PERMISSION_DENIED")
    assert said[0] == said[1]
    with secured.memory("birds", token=secured.bob) as memory, pytest.raises(UnknownMemory) as caught:
        memory.describe()
    assert "digits" not in str(caught.value)
    target, ca = secured.server.target, secured.ca.certificate
    tls = {"ca": ca, "certificate": secured.client.certificate, "key": secured.client.key}
    assert Memory.list(target, token=secured.bob, **tls) == []
    assert [one.name for one in Memory.list(target, token=secured.alice, **tls)] == ["digits-1"]


def test_a_right_is_for_what_it_says(secured):
    with secured.memory() as memory:
        for call in (memory.delete, lambda: memory.forget("t0")):
            with pytest.raises(NotAllowed, match="Ask the server's operator for a token with that right"):
                call()
    with secured.memory("pets", token=secured.bob) as memory, pytest.raises(NotAllowed):
        memory.learn_task(images(), "t0", progress=False)
    assert secured.audit(event="refused", action="delete", client="alice", memory="digits-1")


def test_memories_are_moved_by_administrators_alone(secured, tmp_path):
    path = tmp_path / "digits.memory"
    tls = {"ca": secured.ca.certificate, "certificate": secured.client.certificate, "key": secured.client.key}
    with secured.memory() as memory, pytest.raises(NotAllowed):
        memory.export(path)
    with secured.memory(token=secured.root) as memory:
        memory.export(path)
        with pytest.raises(NotAllowed):
            Memory.import_file(memory.target, path, "digits-moved", token=secured.alice, reconnect=0, **tls)
        Memory.import_file(memory.target, path, "digits-moved", token=secured.root, reconnect=0, **tls).close()
    with secured.memory() as memory, secured.memory("digits-moved") as moved:
        np.testing.assert_array_equal(moved.sample(n=8, seed=1)[0], memory.sample(n=8, seed=1)[0])
    for action, name in (("export", "digits-1"), ("import", "digits-moved")):
        assert secured.audit(event="refused", action=action, client="alice", memory=name)
        assert secured.audit(event="begin", action=action, client="root", memory=name)
    with secured.memory("digits-moved", token=secured.root) as moved:
        moved.delete()


def test_the_readers_of_a_deleted_memory_are_told_the_others_that_they_may_see(secured, tmp_path):
    path = tmp_path / "digits.memory"
    tls = {"ca": secured.ca.certificate, "certificate": secured.client.certificate, "key": secured.client.key}
    with secured.memory(token=secured.root) as memory:
        memory.export(path)
        names = ("digits-4", "digits-5", "zoo")
        imported = [Memory.import_file(memory.target, path, name, token=secured.root, **tls) for name in names]
    with secured.memory("digits-4") as memory, memory.stream(batch_size=64) as stream:
        next(stream)
        imported[0].delete()
        with pytest.raises(UnknownMemory) as caught:
            deque(stream, maxlen=0)
    assert "'digits-5'" in str(caught.value) and "zoo" not in str(caught.value)
    for left in imported[1:]:
        left.delete()


def test_the_name_of_a_memory_that_one_may_not_see_is_not_in_what_one_waits_for(secured):
    with secured.memory("secret", token=secured.root) as hidden, secured.memory("digits-2") as memory:
        running = [hidden.learn_task(images(), f"t{k}", steps=10**6, wait=False) for k in range(1)]
        with secured.memory("secret2", token=secured.root) as other:
            running.append(other.learn_task(images(), "t0", steps=10**6, wait=False))
            waiting = memory.learn_task(images(), "t0", wait=False)
            assert waiting.task.waiting_for == "queued behind another memory"
            assert "secret" not in str(memory.tasks())
            waiting.cancel()
            for task in running:
                task.cancel()


@pytest.mark.parametrize("until", [-DAY, None])
def test_a_client_with_an_expired_or_no_certificate_does_not_get_in(secured, until):
    before = len(secured.audit(event="connect"))
    shown = {"certificate": None, "key": None}
    if until is not None:
        expired = secured.ca.certify("client-8", until=until)
        shown = {"certificate": expired.certificate, "key": expired.key}
    with secured.memory(**shown) as memory, pytest.raises(ServerUnavailable, match="pass certificate= and key="):
        memory.describe()
    assert len(secured.audit(event="connect")) > before
    why = "PEER_DID_NOT_RETURN_A_CERTIFICATE" if until is None else "certificate has expired"
    assert why in secured.server.stderr.read_text()


def test_plaintext_does_not_get_in(secured):
    before = len(secured.audit(event="connect"))
    bare = secured.memory(ca=None, certificate=None, key=None)
    with bare as memory, pytest.raises(ServerUnavailable, match="If it speaks TLS, pass ca="):
        memory.describe()
    assert len(secured.audit(event="connect")) > before
    assert "WRONG_VERSION_NUMBER" in secured.server.stderr.read_text()


def test_a_server_that_is_not_to_be_trusted_is_told_at_once(secured, server):
    stranger = secured.memory(ca=secured.strangers.certificate)
    with stranger as memory, pytest.raises(TlsFailed, match="comes from no authority in ca"):
        memory.describe()
    plain = Memory(server.target, ca=secured.ca.certificate)
    with plain as memory, pytest.raises(TlsFailed, match="speaks plaintext; leave ca out"):
        memory.describe()


def test_certificates_are_renewed_without_a_restart(secured):
    good = [(secured.files / name).read_bytes() for name in ("server.pem", "server.key")]
    try:
        for hosts, until, said in [(("localhost",), -DAY, "expired"), (("elsewhere.org",), DAY, "not for this host")]:
            secured.ca.certify("server", hosts, until).write(secured.files, "server")
            with secured.memory() as memory, pytest.raises(TlsFailed, match=said):
                memory.describe()
        (secured.files / "server.pem").write_text("no certificate")  # what was read before stays in force
        with secured.memory() as memory, pytest.raises(TlsFailed, match="not for this host"):
            memory.describe()
    finally:
        for name, content in zip(("server.key", "server.pem"), reversed(good), strict=True):
            (secured.files / name).write_bytes(content)
    with secured.memory() as memory:
        assert memory.classes == (0, 1)


def test_a_revoked_token_is_refused_at_once_and_its_streams_end(secured):
    token = tokens.add(secured.tokens, "guest", [Right.SAMPLE], ["digits-1"], None)
    with secured.memory(token=token) as memory, memory.stream(batch_size=16) as stream:
        next(stream)
        tokens.revoke(secured.tokens, "guest")
        with pytest.raises(NotAuthenticated):
            memory.describe()
        with pytest.raises(NotAuthenticated):
            for _ in stream:
                pass


def test_a_revoked_token_ends_an_upload_that_pauses_and_a_stream_that_nobody_reads(secured, eventually):
    sent, seen, hold = "memory_server_sample_bytes_total", [], threading.Event()

    def upload():
        yield Wire.header("digits-1", "half")
        hold.wait()

    token = tokens.add(secured.tokens, "idle", [Right.LEARN, Right.SAMPLE], ["digits-1"], None)
    shown = [(RAW, f"Bearer {token}")]
    with secured.channel() as channel:
        stub = MemoryServiceStub(channel)
        unread = stub.Sample(pb.SampleRequest(memory="digits-1"), metadata=shown)
        next(unread)
        paused = stub.LearnTask.future(upload(), metadata=shown)
        eventually(lambda: secured.audit(event="begin", client="idle", action="learn"))
        eventually(lambda: (seen.append(secured.server.metric(sent)), len(seen) > 20 and seen[-1] == seen[-20])[-1])
        tokens.revoke(secured.tokens, "idle")
        assert paused.exception(timeout=10).code() is grpc.StatusCode.UNAUTHENTICATED
        hold.set()
        calls = {line["call"] for line in secured.audit(event="begin", client="idle")}
        eventually(lambda: {line["call"] for line in secured.audit(event="end", code="UNAUTHENTICATED")} >= calls, 10)
        with pytest.raises(grpc.RpcError) as caught:
            list(unread)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_client_that_floods_is_told_when_to_come_back_and_stops_no_other(secured, eventually):
    flood = tokens.add(secured.tokens, "flood", [Right.SAMPLE], ["digits-1"], None)
    with secured.memory(token=flood) as flooding, secured.memory() as other:
        streams = [flooding.stream(batch_size=16) for _ in range(3)]
        for stream in streams:
            next(stream)
        with pytest.raises(ServerBusy, match=r"flood has 3 streams open.*Try again in") as caught:
            flooding.sample(n=1)
        assert caught.value.reason == "CLIENT_LIMIT" and caught.value.retry_after >= 1
        assert len(other.sample(n=16)[1]) == 16
    assert secured.audit(event="refused", client="flood", code="RESOURCE_EXHAUSTED")
    calls = {line["call"] for line in secured.audit(event="begin", client="flood")}
    eventually(lambda: calls == {line["call"] for line in secured.audit(event="end", code="CANCELLED")} & calls)


def test_a_pickled_memory_shows_the_same(secured):
    with secured.memory() as memory:
        assert pickle.loads(pickle.dumps(memory)).classes == (0, 1)


async def test_the_asynchronous_client_shows_the_same(secured):
    async with secured.memory(client=aio.Memory) as memory:
        assert await memory.classes() == (0, 1)
        assert len((await memory.sample(n=300))[1]) == 300
        with pytest.raises(NotAllowed):
            await memory.delete()
    async with secured.memory("pets", token=secured.bob, client=aio.Memory) as memory:
        with pytest.raises(NotAllowed):
            await memory.learn_task(images(), "t0", progress=False)
    async with secured.memory(token="gmt_wrong", client=aio.Memory) as memory:
        with pytest.raises(NotAuthenticated):
            await memory.learn_task(images(), "t0", progress=False)


def test_a_probe_that_shows_a_certificate_needs_no_token(secured, tmp_path):
    certificate, key = secured.client.write(tmp_path, "client")
    shown = ["--certificate", str(certificate), "--key", str(key)]
    target = secured.server.target.replace("127.0.0.1", "localhost")
    ask = ["health", "--learning", "--target", target, "--ca", str(secured.files / "authority.pem")]
    assert CliRunner().invoke(application(), [*ask, *shown]).exit_code == 0
    unknown = CliRunner().invoke(application(), ask)
    assert unknown.exit_code == 1 and "takes only clients with a certificate" in unknown.output
    strange = secured.files / "strange.pem"
    strange.write_bytes(secured.strangers.certificate)
    refused = CliRunner().invoke(application(), [*ask[:-1], str(strange), *shown])
    assert refused.exit_code == 1 and "comes from no authority in ca" in refused.output
    refused = CliRunner().invoke(application(), [*ask, *shown[:2]])
    assert refused.exit_code == 2 and "certificate and key belong together" in refused.output


def test_health_is_open_and_reflection_needs_a_token(secured):
    with secured.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        with pytest.raises(grpc.RpcError) as caught:
            list(ask(iter([asked]), timeout=30))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        (answer,) = ask(iter([asked]), timeout=30, metadata=[(RAW, f"Bearer {secured.bob}")])
        assert answer.list_services_response.service


def test_the_audit_log_goes_on_in_a_new_file_on_sighup(secured, eventually):
    moved = secured.audited.rename(secured.audited.with_suffix(".1"))
    os.kill(secured.server.process.pid, signal.SIGHUP)
    eventually(secured.audited.exists)
    with secured.memory() as memory:
        memory.sample(n=7)
    eventually(lambda: [line["rows"] for line in secured.audit(event="end")] == [7])
    assert oct(secured.audited.stat().st_mode & 0o777) == "0o600"
    secured.audited.write_text(moved.read_text() + secured.audited.read_text())


def test_sighup_follows_the_log_level_and_names_what_needs_a_restart(secured, eventually):
    def logged(event):
        lines = [line for line in secured.server.stderr.read_text().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["event"] == event]

    def hang_up(content, event):
        before = len(logged(event))
        secured.config.write_text(content)
        os.kill(secured.server.process.pid, signal.SIGHUP)
        eventually(lambda: len(logged(event)) > before)
        return logged(event)[-1]

    told = hang_up("log_level = 'warning'\nmax_queue = 3", "settings read again")
    assert (told["log_level"], told["need_a_restart"]) == ("warning", ["--max-queue"])
    calls = len(logged("call"))
    with secured.memory() as memory:
        memory.describe()
    assert "toml: log_level loud" in hang_up("log_level = 'loud'", "kept the settings")["reason"]
    assert len(logged("call")) == calls
    hang_up("log_level = 'info'", "settings read again")
    with secured.memory() as memory:
        memory.describe()
    eventually(lambda: len(logged("call")) > calls)


def test_no_secret_is_in_any_file_of_the_server(secured):
    secured.server.stop()
    secrets = [secured.alice, secured.bob, secured.root, secured.late]
    secrets += [line for line in secured.client.key.decode().splitlines() if len(line) > 40]
    files = [path for path in secured.server.home.rglob("*") if path.is_file() and path.parent != secured.files]
    assert {secured.audited, secured.tokens, secured.server.stderr} <= set(files)
    for path in files:
        content = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in content], path
