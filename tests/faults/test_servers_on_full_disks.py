"""A server whose disk is full refuses what it cannot store, serves what it has, and goes on once there is room."""

import resource
from contextlib import contextmanager

import grpc
import pytest
from memory_api.v1 import memory_pb2 as pb

ROOM = 16 * 1024
"""Bytes beyond which no file can be written: less than the catalog's log has already, more than the server's."""


@contextmanager
def full_disk(server):
    """Inside the block the server writes as upon a full disk, but that nothing has to be filled or mounted for it."""
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


@pytest.fixture
def server(new_server):
    return new_server().start()


@pytest.fixture
def wire(server, connect):
    return connect(server)


def test_a_full_disk_refuses_every_change_in_plain_words_and_nothing_else(server, wire):
    wire.learn("m", "t0")
    seeded, before = wire.sample("m", n=64, seed=1).x, wire.everything()
    changes = {
        "nothing could be stored": lambda: wire.submit("m", "t1", (2, 3)),
        "nothing was forgotten": lambda: wire.stub.ForgetTask(pb.ForgetTaskRequest(memory="m", task="t0"), timeout=60),
        "nothing was deleted": lambda: wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name="m"), timeout=60),
    }
    with full_disk(server):
        for said, change in changes.items():
            refusal = wire.refusal(change)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FAILED")
            assert refusal.retry_after is None
            assert said in refusal.message and "free space" in refusal.message
        assert wire.sample("m", n=64, seed=1).x == seeded
        assert wire.everything() == before
    failures = [line for line in server.log if line["level"] == "error"]
    assert [line["error"] for line in failures] == ["MemoryNotMade", "NotForgotten", "NotDeleted"]
    assert all("disk" in line["cause"] or "File too large" in line["cause"] for line in failures)
    wire.learn("m", "t1", (2, 3))
    changes["nothing was deleted"]()


def test_an_audit_log_on_the_full_disk_stops_samples_until_there_is_room(new_server, connect):
    server = new_server()
    log = server.home / "audit.jsonl"
    log.touch(0o600)
    log.write_text("{}\n" * ROOM)
    server.settings["audit_log"] = log
    wire = connect(server.start())
    wire.learn("m", "t0")
    with full_disk(server):
        refusal = wire.refusal(lambda: wire.sample("m", n=64, seed=1))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "AUDIT_FAILED")
        assert "free disk space" in refusal.message
    assert wire.sample("m", n=64, seed=1).x


@pytest.mark.slow
def test_a_disk_that_fills_while_a_task_learns_costs_that_task_alone_until_it_is_sent_again(server, wire):
    wire.learn("m", "t0")
    seeded = wire.sample("m", (0, 1), n=64, seed=1).x
    wire.submit("m", "t1", (2, 3), steps=300)
    watched = wire.stub.WatchTask(pb.WatchTaskRequest(memory="m", task="t1"), timeout=120)
    next(status for status in watched if status.state == pb.LEARNING and status.progress.phase)
    with full_disk(server):
        *_, last = watched
        assert (last.state, last.error_reason) == (pb.FAILED, "NOT_STORED")
        assert "could not be stored" in last.error and "free space" in last.error
        assert wire.sample("m", (0, 1), n=64, seed=1).x == seeded
    wire.learn("m", "t1", (2, 3))
    assert wire.sample("m", (0, 1), n=64, seed=1).x == seeded
