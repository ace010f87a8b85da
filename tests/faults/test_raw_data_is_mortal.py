"""Invariant I2: raw data is in no file, log or temporary directory, and in no memory once its task has ended."""

import base64
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory

from tests.collector import Collector

MARK = np.random.default_rng(2026).integers(0, 256, 16, dtype=np.uint8)


def traces(mark: np.ndarray) -> list[bytes]:
    """The mark in every form in which it might be written: pixels, floats, text, and the encodings of bytes."""
    pixels = mark.tobytes()
    floats = (mark / np.float32(127.5) - 1).astype(np.float32)
    # Of three base64 alignments one is that of the mark; four characters at either end depend on its neighbours.
    encoded = [base64.b64encode(b"\0" * shift + pixels)[4:-4] for shift in range(3)]
    texts = [", ".join(map(str, mark)), " ".join(map(str, mark)), ",".join(map(str, mark)), pixels.hex()]
    return [pixels, floats.tobytes(), (mark / 255).astype(np.float32).tobytes(), *encoded, *map(str.encode, texts)]


def holds(content: bytes, mark: np.ndarray) -> bool:
    """Whether there is a trace of the mark."""
    return any(trace in content for trace in traces(mark))


def files_with(mark: np.ndarray, *roots: Path) -> list[Path]:
    """Files under `roots` that hold a trace of the mark."""
    found = []
    for path in (path for root in roots for path in root.rglob("*") if path.is_file()):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        if holds(content, mark):
            found.append(path)
    return found


def marked(make_images) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_images(n=200)
    x.reshape(200, 64)[:, 40:56] = MARK
    return x, y


@pytest.mark.parametrize("trace", range(len(traces(MARK))))
def test_the_scanner_finds_the_mark_in_any_form(trace, tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "leak").write_bytes(b"before" + traces(MARK)[trace] + b"after")
    assert files_with(MARK, tmp_path) == [tmp_path / "blobs" / "leak"]


def test_the_scanner_finds_the_mark_in_the_task_itself(tmp_path, make_images):
    x, _ = marked(make_images)
    (tmp_path / "task.npy").write_bytes(x.tobytes())
    assert files_with(MARK, tmp_path)


@pytest.fixture
def talkative(new_server):
    """A server that writes and sends whatever it can be told to, and the collector of its traces."""
    with Collector.listening() as collector:
        places = {"audit_log": "audit.log", "tensorboard_dir": "curves", "unix_socket": "socket"}
        server = new_server(
            metrics_port=0,
            log_level="debug",
            checkpoint_seconds=0.01,
            encryption_key=secrets.token_hex(32),
            trace_endpoint=collector.endpoint,
        )
        server.settings |= {setting: server.home / place for setting, place in places.items()}
        yield server.start(), collector


def test_raw_data_is_in_no_file_and_in_no_message_during_and_after_training(talkative, connect, make_images):
    server, collector = talkative
    wire = connect(server)
    x, y = marked(make_images)
    # Refused data must leave no trace either.
    floats = (x / 127.5 - 1).astype(np.float32)
    floats[-1, 0, 0, 0] = np.nan
    wrong = wire.messages("m", "t0", floats, y, (0, 1), dtype=pb.FLOAT32)
    refusal = wire.refusal(lambda: wire.stub.LearnTask(wrong, timeout=30))
    assert refusal.field == "chunk.x"

    wire.stub.LearnTask(wire.messages("m", "t0", x, y, (0, 1), steps=60), timeout=30)
    assert server.metric("memory_server_held_bytes") >= x.nbytes
    told, states, put_down = [repr(refusal).encode()], set(), 0
    for status in wire.stub.WatchTask(pb.WatchTaskRequest(memory="m", task="t0"), timeout=100):
        states.add(status.state)
        told.append(status.SerializeToString())
        put_down += any((server.data_dir / "checkpoints").glob("*"))
        assert files_with(MARK, server.home, Path("/dev/shm")) == []
    assert states >= {pb.LEARNING, pb.LEARNED}
    assert put_down, "no checkpoint was there to be searched; unsealed ones are: tests/contract/test_resuming.py"
    assert server.metric("memory_server_held_bytes") == 0
    assert wire.sample("m", n=64).x
    assert files_with(MARK, server.home, Path("/dev/shm")) == []
    assert [path for path in server.temporary.rglob("*") if path.is_file()] == []
    told += [server.metrics.encode(), repr(wire.everything()).encode()]
    told += [wire.stub.GetMemory(pb.GetMemoryRequest(name="m"), timeout=60).SerializeToString()]
    assert server.stop() == 0
    told += [request.SerializeToString() for request in collector.requests]
    assert collector.spans and (server.home / "audit.log").read_text().count('"learn"') == 2
    assert any((server.home / "curves").rglob("*.*"))
    assert [message for message in told if holds(message, MARK)] == []
    assert [path for path in server.data_dir.rglob("*") if path.stat().st_size], "the server kept nothing at all"
    assert files_with(MARK, server.home) == []


PERIOD = np.random.default_rng(7).integers(1, 256, 8, dtype=np.uint8)
"""Images that repeat 8 pixels have their 64-byte runs, as bytes and as floats alike, found by one short needle each."""

NEEDLES = [PERIOD.tobytes() * 4, (PERIOD / np.float32(127.5) - 1).astype(np.float32).tobytes()]


def runs_in_memory(pid: int) -> int:
    """How many runs of the needles a process holds in memory that it may write, or skips if nobody may look."""
    try:
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            return sum(part.count(needle) for part in writable(pid, memory) for needle in NEEDLES)
    except PermissionError:
        pytest.skip("this user may not read the memory of another process: run it as root")


def writable(pid: int, memory) -> Iterator[bytes]:
    """What a process may write, in parts that overlap by more than a needle."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights, *_ = line.split()
        begin, end = (int(address, 16) for address in span.split("-"))
        for start in range(begin, end, 16 << 20) if rights.startswith("rw") else ():
            memory.seek(start)
            try:
                yield memory.read(min(end - start, (16 << 20) + 64))
            except OSError:  # unmapped meanwhile, or of a device
                break


def repeating(side: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.tile(PERIOD, rows * side * side // 8).reshape(rows, 1, side, side), np.arange(rows) % 2


def assert_forgets(server, name, batches, eventually):
    """Learned data is nowhere in the memory of the server five seconds later, and its worker is gone."""
    with Memory(server.target, name, options={"width": 4, "noise": 8}) as memory:
        memory.learn_task(iter(batches), "t0", steps=10)
        eventually(lambda: runs_in_memory(server.process.pid) == 0, seconds=5)
    learning = [each for each in psutil.Process(server.process.pid).children() if "worker" in " ".join(each.cmdline())]
    assert learning == []


@pytest.mark.parametrize(("side", "rows", "floats"), [(32, 800, False), (8, 100, True)], ids=["pixels", "floats"])
def test_raw_data_is_nowhere_in_the_memory_of_the_server_once_it_is_learned(
    side, rows, floats, server, name, eventually
):
    """The smaller data comes in messages of few rows: small blocks go other ways through an allocator."""
    x, y = repeating(side, rows)
    x, pieces = ((x / np.float32(127.5) - 1).astype(np.float32), 4) if floats else (x, rows)
    assert_forgets(
        server, name, [(x[at : at + pieces], y[at : at + pieces]) for at in range(0, rows, pieces)], eventually
    )


@pytest.fixture
def watched(new_server):
    """A server of one test's own, and whether it overwrites what is freed."""
    server = new_server(metrics_port=0).start()
    return server, lambda: server.metric("memory_server_overwriting") == 1


X, Y = repeating(32, 800)


def break_off(server, memory, task, eventually):
    """An upload of which some has come, and no more does; the connection stays."""

    def stream() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield X, Y
        eventually(lambda: server.metric("memory_server_held_bytes") > 0)
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        memory.learn_task(stream(), task)


def test_what_is_freed_is_overwritten_for_as_long_as_raw_data_may_be_in_it(watched, eventually):
    server, overwriting = watched
    assert not overwriting()
    with Memory(server.target, "m", options={"width": 4, "noise": 8}) as memory:
        task = memory.learn_task([(X, Y)], "t0", steps=10, wait=False)
        assert overwriting()
        task.result()
        eventually(lambda: not overwriting(), seconds=20)
        assert runs_in_memory(server.process.pid) == 0
        assert memory.sample(n=64)[0].any()
        assert not overwriting()
        break_off(server, memory, "t1", eventually)
        time.sleep(8)
        assert overwriting(), "the connection may keep some of what it received last"
    eventually(lambda: not overwriting(), seconds=20)
    assert runs_in_memory(server.process.pid) == 0


def test_a_server_that_cannot_overwrite_all_that_is_freed_says_so(new_server, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
    server = new_server(metrics_port=0).start()
    (warning,) = (line for line in server.log if line["event"].startswith("what is freed keeps what it held"))
    assert warning["level"] == "warning"
    assert warning["found"] == {"GLIBC_TUNABLES": "glibc.pthread.rseq=0", "PYTHONMALLOC": "malloc"}
    with Memory(server.target, "m", options={"width": 4, "noise": 8}) as memory:
        memory.learn_task([(X, Y)], "t0", steps=10, wait=False)
        assert server.metric("memory_server_overwriting") == 0


def test_what_is_classified_is_nowhere_in_the_memory_of_the_server_once_it_is_answered(watched, eventually):
    server, overwriting = watched
    other = np.random.default_rng(0).integers(0, 256, (40, *X.shape[1:]), dtype=np.uint8)
    with Memory(server.target, "m", options={"width": 4, "noise": 8}) as memory:
        memory.learn_task([(other, np.arange(40) % 2)], "t0", steps=10)
        memory.classify(X[:64])
        eventually(lambda: not overwriting(), seconds=20)
        assert runs_in_memory(server.process.pid) == 0
    assert runs_in_memory(server.process.pid) == 0


@pytest.mark.slow
def test_a_later_upload_pushes_out_of_a_connection_what_one_that_was_broken_off_left(watched, eventually):
    server, overwriting = watched
    with Memory(server.target, "m", options={"width": 4, "noise": 8}) as memory:
        break_off(server, memory, "t0", eventually)
        time.sleep(8)
        assert overwriting()
        memory.learn_task([(X, Y)], "t0", steps=10)
        eventually(lambda: not overwriting(), seconds=20)
        assert runs_in_memory(server.process.pid) == 0


@pytest.mark.slow
def test_nor_is_it_in_the_memory_of_a_server_that_writes_and_sends_whatever_it_can(talkative, eventually):
    server, _ = talkative
    assert_forgets(server, "m", [repeating(32, 800)], eventually)


def test_the_scanner_of_memory_finds_what_a_process_holds():
    held = bytearray(NEEDLES[0])
    assert runs_in_memory(psutil.Process().pid) > len(held) // len(NEEDLES[0])  # the module's own needle is one
