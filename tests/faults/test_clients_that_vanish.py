"""A client that goes away leaves nothing behind and hurts nobody."""

import asyncio
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub

HELD = "memory_server_held_bytes"
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]  # else all would share one connection, and its window
WARM, STALLED = 12, 32
"""Readers before and between the two readings: enough of them that what a process keeps once, such as the buffers of
one more thread, some megabytes from run to run, is little for each."""
READING, STALLING = 18, 2
FEWEST_ROWS = 10 * 256  # of each reader: ten messages, as many as a busy machine takes some seconds for
READING_SECONDS = 2.0
CALM_SECONDS = 3.0
"""A stall is noticed after one second, and what it kept goes back to the system another one later."""


def first_rows(connections, target, request):
    """How many bytes of x come first in an endless stream that then stalls, on a connection of its own."""
    channel = connections.enter_context(grpc.insecure_channel(target, OWN_CONNECTION))
    stream = MemoryServiceStub(channel).Sample(request, timeout=300)
    connections.callback(stream.cancel)
    assert next(stream).WhichOneof("message") == "header"
    return len(next(stream).chunk.x)


def test_a_client_killed_in_the_middle_of_its_upload_leaves_nothing(server, wire, taught, name, eventually):
    before = wire.everything()
    script = Path(__file__).with_name("vanishing_client.py")
    client = subprocess.Popen([sys.executable, script, server.target, name])
    try:
        eventually(lambda: server.metric(HELD) == 100 * (64 + 4))
    finally:
        client.kill()
        client.wait()
    eventually(lambda: server.metric(HELD) == 0)
    assert wire.everything() == before


def test_an_upload_that_is_cancelled_leaves_nothing(server, wire, taught, name, eventually, make_images):
    before = wire.everything()
    x, y = make_images()
    hold = threading.Event()

    def messages():
        yield wire.header(name, "half")
        yield wire.chunk(x, y, (0, 1))
        hold.wait()

    call = wire.stub.LearnTask.future(messages(), timeout=60)
    eventually(lambda: server.metric(HELD) > 0)
    call.cancel()
    hold.set()
    eventually(lambda: server.metric(HELD) == 0)
    assert wire.everything() == before


def test_an_upload_that_stalls_is_ended_and_gives_back_what_it_held(new_server, connect, make_images):
    server = new_server(upload_idle_seconds=1, metrics_port=0).start()
    wire = connect(server)
    x, y = make_images()
    hold = threading.Event()

    def messages():
        yield wire.header("m", "half")
        yield wire.chunk(x, y, (0, 1))
        hold.wait()

    refusal = wire.refusal(lambda: wire.stub.LearnTask(messages(), timeout=60))
    hold.set()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "UPLOAD_STALLED")
    assert server.metric(HELD) == 0
    assert wire.everything() == [[]]

    silent = threading.Event()
    refusal = wire.refusal(lambda: wire.stub.LearnTask(iter(silent.wait, True), timeout=60))
    silent.set()
    assert refusal.reason == "UPLOAD_STALLED"


def test_a_task_whose_client_goes_away_after_the_finish_is_learned_all_the_same(server, wire, name, connect):
    other = connect(server)
    assert other.submit(name, "t0").state == pb.QUEUED
    other.close()
    assert wire.final(name, "t0").state == pb.LEARNED


def test_the_work_for_a_reader_that_leaves_is_dropped(server, wire, taught, eventually):
    open_streams = 'memory_server_open_calls{method="Sample"}'
    stream = wire.stub.Sample(pb.SampleRequest(memory=taught), timeout=60)
    assert next(stream).WhichOneof("message") == "header"
    assert len(next(stream).chunk.x) > 0
    assert server.metric(open_streams) == 1
    stream.cancel()
    eventually(lambda: server.metric(open_streams) == 0)


def test_a_reader_that_stalls_stops_the_generator_and_costs_nobody_else(server, wire, taught, connect, eventually):
    sent = "memory_server_sample_bytes_total"
    slow = connect(server)
    before = server.metric(sent)
    stream = slow.stub.Sample(pb.SampleRequest(memory=taught), timeout=60)
    next(stream)
    seen: list[float] = []
    eventually(lambda: (seen.append(server.metric(sent)), len(seen) > 20 and seen[-1] == seen[-20])[-1], seconds=30)
    assert seen[-1] - before < 8 << 20, "the server ran far ahead of a reader that does not read"
    assert len(wire.sample(taught, n=500).x) == 500 * 64
    stream.cancel()


async def test_of_many_streams_those_that_stall_cost_the_others_nothing_while_a_task_is_learned(
    server, wire, taught, name, eventually
):
    request, asked = pb.SampleRequest(memory=taught, batch_size=64), pb.GetTaskRequest(memory=name, task="endless")
    rows = [0] * READING

    async def read(index):
        async with grpc.aio.insecure_channel(server.target, OWN_CONNECTION) as channel:
            async for answer in MemoryServiceStub(channel).Sample(request):
                rows[index] += len(answer.chunk.y) // 4

    async def until(condition):
        await asyncio.to_thread(eventually, condition)

    wire.submit(name, "endless", steps=1_000_000)
    with ExitStack() as connections:
        connections.callback(wire.stub.CancelTask, pb.CancelTaskRequest(memory=name, task="endless"))
        await until(lambda: wire.stub.GetTask(asked).progress.step > 0)
        for _ in range(STALLING):
            first_rows(connections, server.target, request)
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read(index)) for index in range(READING)]
            await until(lambda: min(rows) > 0)
            before = np.array(rows)
            await asyncio.sleep(READING_SECONDS)
            await until(lambda: np.mean(rows - before) > FEWEST_ROWS)
            got = rows - before
            for reader in readers:
                reader.cancel()
        assert wire.stub.GetTask(asked).state == pb.LEARNING
    assert min(got) >= np.mean(got) / 4


@pytest.mark.parametrize(
    "format",
    [
        pytest.param(pb.Format(), id="as it is", marks=pytest.mark.slow),
        pytest.param(pb.Format(dtype=pb.FLOAT32, height=64, width=64), id="in many messages"),
    ],
)
def test_each_reader_that_stalls_costs_under_two_megabytes(new_server, connect, format):
    """Images are large enough for messages of the largest size, of which a reader may have been sent one."""
    server = new_server(metrics_port=0).start()
    wire = connect(server)
    x = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    lesson = wire.messages("m", "t0", x, np.arange(40) % 2, (0, 1), steps=1, seconds=1, options={"width": "4"})
    wire.stub.LearnTask(lesson, timeout=60)
    assert wire.final("m", "t0").state == pb.LEARNED
    request = pb.SampleRequest(memory="m", batch_size=256, format=format)

    with ExitStack() as connections:

        def resident_with_more(readers: int) -> float:
            """Bytes, once all of them have stalled."""
            for _ in range(readers):
                assert first_rows(connections, server.target, request) > 256 << 10
            readings = []
            for _ in range(3):  # on a busy machine what is freed may go back to the system later
                time.sleep(CALM_SECONDS)
                readings.append(server.metric("process_resident_memory_bytes"))
            return min(readings)

        few = resident_with_more(WARM)
        assert (resident_with_more(STALLED) - few) / STALLED < 2e6


def test_a_deadline_ends_a_stream(wire, taught):
    stream = wire.stub.Sample(pb.SampleRequest(memory=taught), timeout=0.5)
    try:
        for _ in stream:
            pass
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    else:
        raise AssertionError("an endless stream came to its end")
