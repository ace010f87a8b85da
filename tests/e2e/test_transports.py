"""The same samples over TCP, over a Unix socket, and in memory that a learner shares with the server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory, UnknownClass
from memory_client._shared import SharedRing


@pytest.fixture
def unix(server) -> str:
    return f"unix:{server.home / 'socket'}"


@pytest.fixture
def ring():
    ring = SharedRing()
    yield ring
    ring.close()


def chunks(wire, memory, ring, **request):
    """Whether the offer was taken, and the chunks."""
    asked = pb.SampleRequest(memory=memory, shared_memory=ring.offer, **request)
    header, *rest = wire.stub.Sample(asked, timeout=60)
    return header.header.shared, [message.chunk for message in rest if message.chunk.y]


@pytest.mark.parametrize("form", [{}, {"dtype": "float16", "layout": "NHWC"}, {"dtype": "float32", "size": (40, 30)}])
def test_samples_are_the_same_whatever_way_they_come(form, server, unix, taught, taken):
    asked = {"classes": [3, 0, 1], "n": 2000, "seed": 8, **form}
    with Memory(server.target, taught, shared_memory=False) as memory:
        x, y = memory.sample(**asked)
        assert not taken
    for target, shares in ((server.target, True), (unix, False), (unix, True)):
        with Memory(target, taught, shared_memory=shares) as memory:
            other_x, other_y = memory.sample(**asked)
        assert np.array_equal(other_x, x) and np.array_equal(other_y, y)
        assert bool(taken) == shares
        taken.clear()


def test_a_stream_goes_round_its_ring_again_and_again(server, taught, taken):
    asked = {"n": 5000, "batch_size": 100, "seed": 2, "dtype": "float32", "size": (24, 24)}
    with Memory(server.target, taught, shared_memory=False) as memory:
        expected = [x.tobytes() for x, _ in memory.stream(**asked)]
    with Memory(server.target, taught) as memory:
        assert [x.tobytes() for x, _ in memory.stream(**asked)] == expected
    assert sum(taken) > 2 * (4 << 20)


def test_a_stream_that_is_left_gives_its_memory_back(server, taught, taken, eventually):
    def rings() -> int:
        return Path("/proc/self/maps").read_text().count("/memfd:samples")

    before = rings()
    with Memory(server.target, taught) as memory, memory.stream() as stream:
        next(stream)
        assert rings() == before + 1
    assert taken
    eventually(lambda: rings() == before)


def test_rows_that_are_shared_are_in_the_ring_and_not_in_the_message(wire, taught, ring):
    shared, (chunk, *_) = chunks(wire, taught, ring, n=1000, seed=1)
    assert shared and not chunk.x
    expected = wire.sample(taught, n=1000, seed=1).x
    assert ring.take(chunk.shared) == expected[: chunk.shared.length]


def test_a_ring_that_nobody_empties_is_filled_once_and_the_rest_is_sent(wire, taught, ring):
    form = pb.Format(dtype=pb.FLOAT32, height=32, width=32)
    asked = {"n": 2000, "seed": 1, "format": form}
    shared, parts = chunks(wire, taught, ring, **asked)
    held = [part for part in parts if part.HasField("shared")]
    assert shared and 3 << 20 < sum(part.shared.length for part in held) <= 4 << 20
    assert any(part.x for part in parts)
    x = b"".join(ring.take(part.shared) if part.HasField("shared") else part.x for part in parts)
    assert x == wire.sample(taught, **asked).x


def test_rows_that_are_shared_are_counted_as_sent(server, wire, taught, ring):
    sent = "memory_server_sample_bytes_total"
    before = server.metric(sent)
    chunks(wire, taught, ring, n=1000)
    assert server.metric(sent) - before == 1000 * 64


@pytest.mark.parametrize(
    "wrong", [{"nonce": bytes(16)}, {"nonce": b""}, {"pid": 1}, {"pid": 2**32 - 1}, {"fd": 0}, {"size": 2**63}]
)
def test_an_offer_that_is_false_is_as_none(wrong, wire, taught, ring):
    for field, value in wrong.items():
        setattr(ring.offer, field, value)
    shared, parts = chunks(wire, taught, ring, n=1000, seed=1)
    assert not shared
    assert b"".join(part.x for part in parts) == wire.sample(taught, n=1000, seed=1).x


def test_a_counter_that_is_false_has_the_rest_sent(wire, taught, ring):
    os.pwrite(ring.offer.fd, b"\xff" * 8, 64)
    shared, parts = chunks(wire, taught, ring, n=1000, seed=1)
    assert shared
    assert b"".join(part.x for part in parts) == wire.sample(taught, n=1000, seed=1).x


def test_interpolation_is_offered_memory_too(wire, taught, ring):
    asked = pb.InterpolateRequest(memory=taught, start="t0", end="t1", weights=[0.5], n=1, shared_memory=ring.offer)
    refusal = wire.refusal(lambda: list(wire.stub.Interpolate(asked, timeout=60)))
    assert refusal.reason == "CANNOT_BLEND"


def test_a_server_that_shall_not_share_does_not(new_server, connect, ring, make_images):
    server = new_server(shared_memory=False).start()
    wire = connect(server)
    wire.learn("m", "t0")
    assert chunks(wire, "m", ring, n=300)[0] is False


def test_a_server_takes_the_memory_of_a_learner_that_a_user_starts_in_a_process_of_its_own(server, taught):
    """The server's own memory is closed to other processes of its user, and it still opens theirs."""
    script = """
import sys
from memory_client import Memory
from memory_client._shared import SharedRing
taken, take = [], SharedRing.take
SharedRing.take = lambda self, rows: (taken.append(rows.length), take(self, rows))[1]
x, y = Memory(sys.argv[1], sys.argv[2]).sample(n=1000, seed=1)
print(sum(taken), x.nbytes)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, server.target, taught], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["64000", "64000"]


@pytest.mark.parametrize("slashes", ["unix:", "unix://"])
def test_everything_works_over_a_unix_socket(slashes, server, wire, taught, name, make_images):
    target = f"{slashes}{server.home / 'socket'}"
    x, y = make_images()
    with Memory(target, name, options={"width": "4", "noise": "8"}) as memory:
        assert memory.learn_task((x, y), "t0", steps=5, progress=False).state == "LEARNED"
        assert memory.classes == (0, 1)
        assert len(memory.classify(x)[0]) == 40
        with memory.stream(batch_size=30) as stream:
            assert next(stream)[0].shape == (30, 1, 8, 8)
        with pytest.raises(UnknownClass):
            memory.sample(classes=[7])
        assert memory.forget("t0").classes == ()
        memory.delete()


def test_memoryctl_speaks_over_a_unix_socket(unix, taught, tmp_path):
    out = tmp_path / "samples.npz"
    asked = ("sample", "-n", "6", "--size", "16x12", "--dtype", "float16", "--out", str(out), "--json")
    arguments = [sys.executable, "-m", "memory_client.cli", "--target", unix, "-m", taught, *asked]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["shape"] == [1, 16, 12]
    assert np.load(out)["x"].dtype == np.float16


@pytest.mark.slow
def test_a_unix_socket_is_gone_when_its_server_stops_and_is_there_again_after_a_crash(new_server, tmp_path):
    path = tmp_path / "socket"
    server = new_server(unix_socket=path).start()
    assert path.is_socket()
    server.restart(9)
    with Memory(f"unix:{path}") as memory:
        assert Memory.list(memory.target) == []
    server.stop()
    assert not path.exists()


def test_a_unix_socket_that_cannot_be_is_said_clearly(new_server, tmp_path):
    server = new_server(unix_socket=tmp_path / "missing" / "socket")
    assert server.launch().wait(60) == 2
    said = server.stderr.read_text()
    assert "cannot listen on the Unix socket" in said and "--unix-socket" in said
