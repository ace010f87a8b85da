"""Invariant I3 for what is forgotten: killed at any instant, a server comes back without it, and with a solver."""

import hashlib
import signal
import time

import psutil
import pytest
from memory_api.v1 import memory_pb2 as pb


def workers(server):
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if "memory_server.learning.worker" in child.cmdline()]


def described(wire):
    return wire.stub.GetMemory(pb.GetMemoryRequest(name="m"), timeout=30)


@pytest.mark.slow
def test_a_server_killed_while_the_solver_is_trained_anew_comes_back_and_trains_it(
    new_server, connect, eventually, make_images
):
    server = new_server().start()
    wire = connect(server)
    wire.learn("m", "t0", (0, 1))
    wire.learn("m", "t1", (2, 3))
    seeded = wire.sample("m", n=64, seed=1, classes=(0, 1)).x
    assert not wire.stub.ForgetTask(pb.ForgetTaskRequest(memory="m", task="t1"), timeout=60).complete
    eventually(lambda: len(workers(server)) == 1)
    training = workers(server)
    assert not described(wire).complete
    server.stop(signal.SIGKILL)
    eventually(lambda: not any(worker.is_running() for worker in training))

    wire = connect(server.start())
    assert [one.integer for one in described(wire).classes] == [0, 1]
    eventually(lambda: described(wire).complete, seconds=60)
    x, _ = make_images(n=4)
    asked = pb.ClassifyRequest(memory="m", spec=pb.DataSpec(shape=x.shape[1:], dtype=pb.UINT8), x=x.tobytes())
    assert [one.integer for one in wire.stub.Classify(asked, timeout=60).classes] == [0, 1]
    assert wire.sample("m", n=64, seed=1).x == seeded
    files = {path.name: path.read_bytes() for path in server.data_dir.glob("blobs/??/*")}
    assert len(files) == 2, "the task that is left and its solver"
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in files.items())


@pytest.mark.slow
def test_a_shutdown_does_not_wait_for_a_solver_that_is_trained_anew(new_server, connect, eventually):
    server = new_server(grace_seconds=1).start()
    wire = connect(server)
    wire.learn("m", "t0", (0, 1))
    wire.learn("m", "t1", (2, 3))
    wire.stub.ForgetTask(pb.ForgetTaskRequest(memory="m", task="t1"), timeout=60)
    eventually(lambda: len(workers(server)) == 1)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 1 + 5
