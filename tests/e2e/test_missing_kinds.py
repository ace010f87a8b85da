"""A memory of a kind that the server does not have, as after a return to an older version, is in nobody's way."""

import hashlib
import subprocess
import sys

import grpc
import pytest
from memory_api.v1 import memory_pb2 as pb

from dgm_core.manifest import DataSpec, ExpertEntry, Learned, Manifest, TaskEntry
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskRecord

BLOB = b"of another kind"
SAYS = "memory 'later' is of kind 'ppca', which this server does not have: run the version that made it, or delete"


@pytest.fixture
def server(new_server):
    """One with a memory of such a kind, which lacks its solver."""
    server = new_server(sleep_when_idle=0.2)
    digest = hashlib.sha256(BLOB).hexdigest()
    with DataDir(server.data_dir) as data:
        manifest = Manifest("ppca", {"seed": "7"}, DataSpec((1, 8, 8), "uint8"))
        data.admit(TaskRecord("later", "t0", (0, 1), 40, "d"), manifest)
        entry = TaskEntry("t0", digest, (ExpertEntry(digest, (0, 1), (20, 20)),), 1.0, 1, 1.0)
        data.commit("later", "t0", Learned(entry, {}, {digest: BLOB}, 0))
    return server.start()


def test_a_memory_of_a_kind_that_the_server_does_not_have_hides_no_other_and_says_what_to_do(server, connect):
    wire = connect(server)
    wire.learn("good", "t0")
    listed = wire.stub.ListMemories(pb.ListMemoriesRequest(), timeout=30).memories
    assert [(each.name, each.kind, each.tasks, each.drowsy) for each in listed] == [
        ("good", "dgmw", 1, False),
        ("later", "ppca", 1, False),
    ]
    assert wire.stub.GetMemory(pb.GetMemoryRequest(name="good"), timeout=30).complete
    assert len(wire.sample("good", n=8).x) == 8 * 64

    spec = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)
    x = pb.ClassifyRequest(memory="later", spec=spec, x=bytes(64))
    for ask in (
        lambda: wire.stub.GetMemory(pb.GetMemoryRequest(name="later"), timeout=30),
        lambda: wire.stub.GetMemory(pb.GetMemoryRequest(name="later", brief=True), timeout=30),
        lambda: wire.stub.CreateMemory(pb.CreateMemoryRequest(name="later", kind="ppca", spec=spec), timeout=30),
        lambda: wire.sample("later", n=8),
        lambda: wire.sample("later", n=8, revision=1),
        lambda: list(wire.stub.Interpolate(pb.InterpolateRequest(memory="later", end="t0", weights=[1], n=1))),
        lambda: wire.stub.Classify(x, timeout=30),
        lambda: wire.submit("later", "t1"),
        lambda: wire.stub.ForgetTask(pb.ForgetTaskRequest(memory="later", task="t0"), timeout=30),
        lambda: list(wire.stub.Sleep(pb.SleepRequest(memory="later"), timeout=30)),
        lambda: list(wire.stub.WatchTask(pb.WatchTaskRequest(memory="later", task="t0", until_consolidated=True))),
    ):
        refusal = wire.refusal(ask)
        assert (refusal.code, refusal.reason, refusal.message[: len(SAYS)]) == (
            grpc.StatusCode.INTERNAL,
            "INTERNAL",
            SAYS,
        )

    (task,) = wire.stub.ListTasks(pb.ListTasksRequest(memory="later"), timeout=30).tasks
    assert (task.task, task.state) == ("t0", pb.LEARNED)
    exported = wire.stub.ExportMemory(pb.ExportMemoryRequest(memory="later"), timeout=30)
    assert BLOB in b"".join(message.chunk for message in exported)
    errors = [line for line in server.log if line["level"] == "error"]
    assert [(line["event"], line.get("reason", "")[: len(SAYS)]) for line in errors] == [
        ("a memory cannot be served", SAYS)
    ]


def test_a_memory_of_a_kind_that_the_server_does_not_have_is_deleted_after_the_same_question(server, connect):
    command = [sys.executable, "-m", "memory_client.cli", "--target", server.target, "delete", "--memory", "later"]
    done = subprocess.run(command, input="y\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "deleted later"), done.stderr
    assert "with its 1 tasks" in done.stderr
    assert not list(connect(server).stub.ListMemories(pb.ListMemoriesRequest(), timeout=30).memories)
