"""Whatever is sent: typed errors, no crash, nothing held, and everybody else is served as before."""

import pytest
from memory_api.v1 import memory_pb2 as pb

from tests.faults.attack import attack

SEEDED = {"n": 64, "seed": 2026}
POOLED_FILES = 32
"""The catalog keeps up to 15 connections, of two files each, once many have been busy at one time."""

MOST_MORE_MEMORY = 64 << 20


@pytest.fixture
def unharmed(server, wire, taught, eventually):
    """The same process serves the same bytes; it holds no data, and no more files or memory than before."""
    bytes_before, pid = wire.sample(taught, **SEEDED).x, server.process.pid
    files, memory = server.metric("process_open_fds"), server.metric("process_resident_memory_bytes")
    yield
    assert (server.process.poll(), server.process.pid) == (None, pid)
    assert wire.sample(taught, **SEEDED).x == bytes_before
    eventually(lambda: server.metric("memory_server_held_bytes") == 0)
    eventually(lambda: server.metric("process_open_fds") <= files + POOLED_FILES)
    assert server.metric("process_resident_memory_bytes") - memory < MOST_MORE_MEMORY


@pytest.fixture
def no_new_memories(wire, taught):
    before = {one.name for one in wire.stub.ListMemories(pb.ListMemoriesRequest(), timeout=60).memories}
    yield
    for one in wire.stub.ListMemories(pb.ListMemoriesRequest(), timeout=60).memories:
        if one.name not in before:
            wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=one.name), timeout=60)


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
async def test_hostile_messages_are_answered_by_typed_errors(count, server, taught, no_new_memories, unharmed):
    outcome = await attack(server.target, count, (taught, "t0", "t1"))
    print(outcome.sent, "messages:", dict(outcome.answers))
    assert outcome.wrong == []
    assert outcome.sent >= count
