"""Invariant I2: raw data is written to no file, log or temporary directory, during and after training."""

import base64
from pathlib import Path

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb

MARK = np.random.default_rng(2026).integers(0, 256, 16, dtype=np.uint8)


def traces(mark: np.ndarray) -> list[bytes]:
    """The mark in every form in which it might be written: pixels, floats, text, and the encodings of bytes."""
    pixels = mark.tobytes()
    floats = (mark / np.float32(127.5) - 1).astype(np.float32)
    # Of three base64 alignments one is that of the mark; four characters at either end depend on its neighbours.
    encoded = [base64.b64encode(b"\0" * shift + pixels)[4:-4] for shift in range(3)]
    texts = [", ".join(map(str, mark)), " ".join(map(str, mark)), ",".join(map(str, mark)), pixels.hex()]
    return [pixels, floats.tobytes(), (mark / 255).astype(np.float32).tobytes(), *encoded, *map(str.encode, texts)]


def files_with(mark: np.ndarray, *roots: Path) -> list[Path]:
    """Files under `roots` that hold a trace of the mark."""
    wanted = traces(mark)
    found = []
    for path in (path for root in roots for path in root.rglob("*") if path.is_file()):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        if any(trace in content for trace in wanted):
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


def test_raw_data_is_in_no_file_during_and_after_training(new_server, connect, make_images):
    server = new_server(metrics_port=0, log_level="debug").start()
    wire = connect(server)
    x, y = marked(make_images)
    # Refused data must leave no trace either.
    floats = (x / 127.5 - 1).astype(np.float32)
    floats[-1, 0, 0, 0] = np.nan
    wrong = wire.messages("m", "t0", floats, y, (0, 1), dtype=pb.FLOAT32)
    assert wire.refusal(lambda: wire.stub.LearnTask(wrong, timeout=30)).field == "chunk.x"

    wire.stub.LearnTask(wire.messages("m", "t0", x, y, (0, 1), steps=60), timeout=30)
    assert server.metric("memory_server_held_bytes") >= x.nbytes
    states = set()
    for status in wire.stub.WatchTask(pb.WatchTaskRequest(memory="m", task="t0"), timeout=100):
        states.add(status.state)
        assert files_with(MARK, server.home, Path("/dev/shm")) == []
    assert states >= {pb.LEARNING, pb.LEARNED}
    assert server.metric("memory_server_held_bytes") == 0
    assert wire.sample("m", n=64).x
    assert files_with(MARK, server.home, Path("/dev/shm")) == []
    assert [path for path in server.temporary.rglob("*") if path.is_file()] == []
    assert server.stop() == 0
    assert [path for path in server.data_dir.rglob("*") if path.stat().st_size], "the server kept nothing at all"
    assert files_with(MARK, server.home) == []
