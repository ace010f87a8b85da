"""A server that is stopped, killed or started again loses no committed task and keeps nobody waiting."""

import signal
import threading
import time
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from memory_api.v1 import memory_pb2 as pb


def begin_endless_task(wire):
    wire.submit("m", "endless", (2, 3), steps=1_000_000)
    for status in wire.stub.WatchTask(pb.WatchTaskRequest(memory="m", task="endless"), timeout=60):
        if status.state == pb.LEARNING and status.progress.phase:
            return


def workers(server):
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if "memory_server.learning.worker" in child.cmdline()]


@pytest.mark.slow
def test_a_server_killed_while_it_learns_keeps_what_it_had_committed(new_server, connect, eventually):
    server = new_server().start()
    wire = connect(server)
    wire.learn("m", "t0")
    seeded = wire.sample("m", n=64, seed=1).x
    begin_endless_task(wire)
    wire.submit("m", "waiting", (4, 5))
    learning = workers(server)
    assert len(learning) == 1
    server.stop(signal.SIGKILL)
    eventually(lambda: not any(worker.is_running() for worker in learning), seconds=2)

    wire = connect(server.start())
    tasks = {task.task: task for task in wire.stub.ListTasks(pb.ListTasksRequest(memory="m"), timeout=30).tasks}
    assert [tasks[name].state for name in ("t0", "endless", "waiting")] == [pb.LEARNED, pb.FAILED, pb.FAILED]
    assert "the server stopped" in tasks["endless"].error and "send it again" in tasks["endless"].error
    assert wire.sample("m", n=64, seed=1).x == seeded
    wire.learn("m", "endless", (2, 3))


def test_sigterm_ends_streams_watches_and_workers_and_exits_0(new_server, connect):
    server = new_server(grace_seconds=5).start()
    wire = connect(server)
    wire.learn("m", "t0")
    begin_endless_task(wire)
    learning = workers(server)
    samples = wire.stub.Sample(pb.SampleRequest(memory="m"), timeout=60)
    next(samples)
    watch = wire.stub.WatchTask(pb.WatchTaskRequest(memory="m", task="endless"), timeout=60)
    next(watch)
    checks = health_pb2_grpc.HealthStub(wire.channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert next(checks).status == health_pb2.HealthCheckResponse.SERVING

    server.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    refusal = wire.refusal(lambda: list(samples))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert refusal.retry_after is not None
    *_, last = watch
    assert last.state == pb.FAILED
    assert next(checks).status == health_pb2.HealthCheckResponse.NOT_SERVING
    checks.cancel()
    assert server.process.wait(20) == 0
    assert time.monotonic() - began < 5 + 5
    assert not any(worker.is_running() for worker in learning)


def test_sighup_ends_no_server_however_early_it_comes(new_server, connect, eventually):
    server = new_server()
    process = server.launch()
    eventually(lambda: ignored(process, signal.SIGHUP))
    loaded = threading.Event()

    def hang_up():
        while not loaded.wait(0.01):
            process.send_signal(signal.SIGHUP)

    hanging_up = threading.Thread(target=hang_up)
    hanging_up.start()
    try:
        wire = connect(server.ready())
    finally:
        loaded.set()
        hanging_up.join()
    assert not ignored(process, signal.SIGHUP)
    wire.stub.ListMemories(pb.ListMemoriesRequest(), timeout=30)
    process.send_signal(signal.SIGHUP)  # those before may all have come while they were ignored
    eventually(lambda: any(line["event"] == "settings read again" for line in server.log))


def ignored(process, number):
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.slow
def test_a_reader_that_stalls_holds_up_a_shutdown_for_the_grace_at_most_and_ctrl_c_twice_not_at_all(
    new_server, connect
):
    server = new_server(grace_seconds=1).start()
    wire = connect(server)
    wire.learn("m", "t0")
    stalled = wire.stub.Sample(pb.SampleRequest(memory="m", n=1_000_000), timeout=60)
    next(stalled)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 1 + 5
    with pytest.raises(grpc.RpcError):
        list(stalled)

    server.settings["grace_seconds"] = 600
    wire = connect(server.start())
    stalled = wire.stub.Sample(pb.SampleRequest(memory="m", n=1_000_000), timeout=60)
    next(stalled)
    server.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert server.process.poll() is None
    assert server.stop(signal.SIGINT) == 130
    with pytest.raises(grpc.RpcError):
        list(stalled)
