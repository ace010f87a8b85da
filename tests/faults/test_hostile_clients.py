"""Whatever is sent: typed errors, no crash, nothing held, and everybody else is served as before."""

import asyncio
from collections import Counter
from pathlib import Path

import grpc
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub

from tests.faults.attack import BROKEN_OFF, attack, reason
from tests.faults.connections import converse, drip

LONG = 100_000
PENDING = 1000
SEEDED = {"n": 64, "seed": 2026}
POOLED_FILES = 32
"""The catalog keeps up to 15 connections, of two files each, once many have been busy at one time."""

MOST_MORE_MEMORY = 128 << 20
"""In bytes: allocators and caches come to keep 40 to 80 MB over the first 30 000 messages."""

MOST_LATER = 32 << 20
"""In bytes, over any number of further messages: what leaks 700 bytes a message is found by 50 000 of them."""

MOST_BROKEN_OFF = 0.01
"""Share of the calls whose status gRPC's own client may lose."""


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


@pytest.mark.parametrize("count", [2_000, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
async def test_hostile_messages_are_answered_by_typed_errors(count, server, taught, no_new_memories, unharmed):
    logged = len(server.stderr.read_text().splitlines())
    first = await attack(server.target, count // 2, (taught, "t0", "t1"))
    resident = server.metric("process_resident_memory_bytes")
    second = await attack(server.target, count // 2, (taught, "t0", "t1"), seed=1)
    later = server.metric("process_resident_memory_bytes") - resident
    answers = first.answers + second.answers
    print(first.sent + second.sent, "messages:", dict(answers), f"{later / 2**20:.1f} MiB more in the second half")
    assert first.wrong + second.wrong == []
    assert answers[BROKEN_OFF] <= MOST_BROKEN_OFF * answers.total()
    assert later < (MOST_LATER if count >= LONG else MOST_MORE_MEMORY)
    assert [line for line in server.stderr.read_text().splitlines()[logged:] if '"incident"' in line] == []
    assert first.sent + second.sent >= count


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
async def test_connections_that_make_no_call_harm_nobody(count, server, unharmed):
    await converse(server.target, count)
    lines = server.stderr.read_bytes().splitlines()
    assert [line for line in lines if not line.startswith(b"{") or not line.isascii()] == []


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_messages_beyond_the_limit_are_refused_before_they_take_memory(compression, server, wire, unharmed):
    path = "/memory_api.v1.MemoryService/Classify"
    with grpc.insecure_channel(server.target, [("grpc.max_send_message_length", -1)]) as channel:
        call = channel.unary_unary(path)
        before = peak_memory(server)
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(128 << 20), compression=compression, timeout=60)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak_memory(server) - before < 32 << 20


def peak_memory(server):
    """The most that was ever resident, in bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


async def test_uploads_that_drip_on_are_ended_and_give_back_what_they_held(new_server, connect, make_images):
    server = new_server(upload_seconds=3, max_queue=4, client_ingest_share=1, metrics_port=0).start()
    wire = connect(server)
    x, y = make_images()

    async def tasks(task):
        yield wire.header("m", task)
        yield wire.chunk(x[:1], y[:1], (0, 1))
        while True:
            await asyncio.sleep(0.2)
            yield wire.chunk(x[:1], y[:1])

    async def files():
        yield pb.ImportMemoryRequest(header=pb.ImportMemoryHeader(memory="copy"))
        for byte in bytes.fromhex("8947454e4d454d0a") + bytes(1000):
            yield pb.ImportMemoryRequest(chunk=bytes([byte]))
            await asyncio.sleep(2)

    async def ended(call):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return reason(caught.value), caught.value.details()

    async with grpc.aio.insecure_channel(server.target) as channel:
        stub = MemoryServiceStub(channel)
        calls = [stub.LearnTask(tasks(f"t{number}"), timeout=60) for number in range(4)]
        calls.append(stub.ImportMemory(files(), timeout=60))
        for why, said in await asyncio.gather(*map(ended, calls)):
            assert why == "UPLOAD_STALLED" or BROKEN_OFF in said
            assert BROKEN_OFF in said or "--upload-seconds" in said
    assert server.metric('memory_server_requests_total{code="DEADLINE_EXCEEDED",method="LearnTask"}') == 4
    assert server.metric('memory_server_requests_total{code="DEADLINE_EXCEEDED",method="ImportMemory"}') == 1
    assert server.metric("memory_server_held_bytes") == 0
    assert wire.submit("m", "t0").state == pb.QUEUED


@pytest.mark.parametrize("count", [200, pytest.param(5_000, marks=pytest.mark.slow)])
async def test_half_open_and_dripping_uploads_hold_the_queue_until_they_have_been_idle(
    count, new_server, connect, eventually
):
    server = new_server(
        upload_idle_seconds=2, max_queue=20, client_ingest_share=1, client_calls=10_000, metrics_port=0
    ).start()
    wire = connect(server)
    hold = asyncio.Event()

    async def half_open():
        yield wire.header("m", "half")
        await hold.wait()

    async def upload(stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.LearnTask(half_open(), timeout=100)
        return reason(caught.value) or caught.value.code().name

    dripping = asyncio.gather(*(drip(server.target, 0.5) for _ in range(5)))
    async with grpc.aio.insecure_channel(server.target) as channel:
        stub = MemoryServiceStub(channel)
        reasons = Counter(await asyncio.gather(*(upload(stub) for _ in range(count))))
    assert all(await dripping)
    hold.set()
    # gRPC's client may lose the status of a call that ends while it is still sending; and of calls that come faster
    # than they are taken up, beyond its `grpc.server.max_pending_requests`, gRPC's server itself ends some.
    assert set(reasons) <= {"UPLOAD_STALLED", "SERVER_BUSY", "CANCELLED"}, reasons
    assert reasons["CANCELLED"] <= (0.01 if count <= PENDING else 0.5) * count
    ended = 'memory_server_requests_total{code="%s",method="LearnTask"}'
    stalled, refused = (server.metric(ended % code) for code in ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"))
    assert stalled + refused >= count - reasons["CANCELLED"]
    # Who is refused instead, because the queue is full, is a matter of who came first.
    assert stalled >= max(reasons["UPLOAD_STALLED"], 20) and refused >= reasons["SERVER_BUSY"]
    assert server.metric("memory_server_held_bytes") == 0
    assert wire.submit("m", "t0").state == pb.QUEUED
