"""Memory that a learner shares with the server leaves nothing behind and hurts nobody, whoever dies."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory, ServerUnavailable
from memory_client._shared import SharedRing

DESCRIPTORS = "process_open_fds"
PUNCH = ("fallocate", "--punch-hole", "--offset", "0", "--length")
OPEN = 'memory_server_open_calls{method="Sample"}'


def test_a_client_killed_while_it_shares_memory_leaves_nothing_in_the_server(server, wire, taught, eventually):
    script = Path(__file__).with_name("sharing_client.py")
    expected = wire.sample(taught, n=500, seed=3).x
    before = server.metric(DESCRIPTORS)
    clients = [
        subprocess.Popen([sys.executable, script, server.target, taught], stdout=subprocess.PIPE) for _ in range(2)
    ]
    try:
        for client in clients:
            assert [int(client.stdout.readline()) for _ in range(20)]
        assert server.metric(DESCRIPTORS) >= before + 4, "each has a connection and a ring"
    finally:
        for client in clients:
            client.kill()
            client.wait()
            client.stdout.close()
    assert wire.sample(taught, n=500, seed=3).x == expected
    eventually(lambda: server.metric(OPEN) == 0 and server.metric(DESCRIPTORS) == before)


def test_a_client_stopped_while_it_shares_memory_stops_the_generator_and_costs_nobody_else(
    server, wire, taught, eventually
):
    sent = "memory_server_sample_bytes_total"
    script = Path(__file__).with_name("sharing_client.py")
    client = subprocess.Popen([sys.executable, script, server.target, taught], stdout=subprocess.PIPE)
    try:
        client.stdout.readline()
        client.send_signal(signal.SIGSTOP)
        before, seen = server.metric(sent), []
        eventually(lambda: (seen.append(server.metric(sent)), len(seen) > 20 and seen[-1] == seen[-20])[-1], seconds=60)
        assert seen[-1] - before < 16 << 20, "the server ran far ahead of a reader that does not read"
        assert len(wire.sample(taught, n=500).x) == 500 * 64
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
    eventually(lambda: server.metric(OPEN) == 0)


@pytest.mark.slow
def test_a_stream_whose_server_is_killed_while_they_share_memory_is_resumed_by_the_next(
    new_server, connect, tmp_path, taken
):
    server = new_server(unix_socket=tmp_path / "socket").start()
    connect(server).learn("m", "t0", options={"width": "4", "noise": "8", "seed": "1"})
    target, asked = f"unix:{tmp_path / 'socket'}", {"batch_size": 500, "seed": 1, "n": 500 * 200}
    with Memory(target, "m", shared_memory=False) as memory:
        expected = [x.tobytes() for x, _ in memory.stream(**asked)]
    with Memory(target, "m", reconnect=60) as memory:
        stream = memory.stream(**asked)
        got = [next(stream)[0].tobytes() for _ in range(3)]
        taken_before = len(taken)
        again = threading.Thread(target=server.restart, args=(signal.SIGKILL,))
        again.start()
        got += [x.tobytes() for x, _ in stream]
        again.join()
    assert got == expected
    assert len(taken) > taken_before > 0


@pytest.mark.slow
def test_a_stream_whose_server_is_gone_for_good_says_so(new_server, connect, taken):
    server = new_server().start()
    connect(server).learn("m", "t0")
    with Memory(server.target, "m", reconnect=0.5) as memory:
        stream = memory.stream(batch_size=500, dtype=np.float32)
        next(stream)
        server.stop(signal.SIGKILL)
        with pytest.raises(ServerUnavailable):
            for _ in stream:
                pass
    assert taken


def test_a_client_that_empties_its_memory_under_the_server_harms_itself_alone(server, wire, taught):
    """Nobody can cut sealed memory short, but its pages can be given back: they come again, as zeros."""
    ring = SharedRing()
    asked = pb.SampleRequest(memory=taught, shared_memory=ring.offer, batch_size=500)
    stream = wire.stub.Sample(asked, timeout=60)
    assert next(stream).header.shared
    for _ in range(20):
        next(stream)
        with pytest.raises(PermissionError):
            os.ftruncate(ring.offer.fd, 0)
        punched = subprocess.run(
            [
                "fallocate",
                "--punch-hole",
                "--offset",
                "0",
                "--length",
                str(ring.offer.size),
                f"/proc/self/fd/{ring.offer.fd}",
            ],
            pass_fds=[ring.offer.fd],
            check=False,
        )
        assert punched.returncode == 0
    stream.cancel()
    ring.close()
    assert server.process.poll() is None
    assert len(wire.sample(taught, n=500).x) == 500 * 64
