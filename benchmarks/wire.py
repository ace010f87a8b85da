"""Ingest and sampling over loopback, beside the in-process generator and a bare gRPC stream of the same message size.

    python benchmarks/wire.py [--side 32] [--channels 3] [--seconds 5]

The memory behind it is taught random images for a few steps: its speed is that of any memory of this size. Prints one
Markdown table; all rows come from one run, so compare rows of one table only.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import bare_stream
import grpc
import numpy as np
import torch
from memory_client import Memory
from rich.console import Console

from dgm_core.experts import to_storage
from dgm_core.memories import load_memory
from memory_server.demo.run import server
from memory_server.store.datadir import DataDir

MESSAGE = 512 * 1024
BATCH = 256


def main() -> None:
    """Measures and prints the table."""
    wish = _arguments()
    shape = (wish.channels, wish.side, wish.side)
    size = int(np.prod(shape))
    with tempfile.TemporaryDirectory() as folder:
        with server(Path(folder), Console(stderr=True)) as target:
            memory = Memory(target, name="bench", options={"seed": 0})
            memory.learn_task(_images(shape, 64), task="t0", steps=20)
            ingest = _ingest(memory, shape)
            sampled = _sampling(memory, wish.seconds)
        inside = _in_process(Path(folder) / "data", wish.seconds)
    bare_in, bare_out = _bare(wish.seconds)
    print(
        f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, ", end=""
    )
    print(
        f"Python {platform.python_version()}; images {shape}, batches of {BATCH}, messages of {MESSAGE // 1024} KiB\n"
    )
    print("| what | MB/s | images/s | ratio |\n|---|---|---|---|")
    _row("ingest: bare gRPC client stream", bare_in, size, None)
    _row("ingest: `learn_task` upload, checked and digested", ingest, size, bare_in)
    _row("sampling: bare gRPC server stream", bare_out, size, None)
    _row("sampling: in-process expert, one thread", inside * size, size, None)
    _row("sampling: `memory.stream`, one client", sampled * size, size, inside * size)


def _row(name: str, rate: float, size: int, beside: float | None) -> None:
    ratio = "" if beside is None else f"{rate / beside:.2f}"
    print(f"| {name} | {rate / 1e6:.0f} | {rate / size:.0f} | {ratio} |")


def _images(shape: tuple[int, ...], n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), np.arange(n) % 2


def _ingest(memory: Memory, shape: tuple[int, ...], megabytes: int = 200) -> float:
    """Bytes per second from the first chunk to the admitted task."""
    x, y = _images(shape, megabytes * 10**6 // int(np.prod(shape)))
    started = time.perf_counter()
    handle = memory.learn_task((x, y), task="upload", wait=False)
    seconds = time.perf_counter() - started
    handle.cancel()
    return x.nbytes / seconds


def _sampling(memory: Memory, seconds: float) -> float:
    """Images per second that one client receives."""
    return _rate((len(x) for x, _ in memory.stream(batch_size=BATCH)), seconds)


def _in_process(data_dir: Path, seconds: float) -> float:
    """Images per second of the same expert, uint8 conversion included, in this process."""
    torch.set_num_threads(1)
    with DataDir(data_dir) as store:
        manifest = store.catalog.manifest("bench")
        expert = load_memory(manifest, store.blobs).expert(manifest.tasks[0].experts[0].digest)

    def batches() -> Iterator[int]:
        while True:
            c = torch.arange(BATCH) % len(expert.classes)
            yield len(to_storage(expert.generate(torch.randn(BATCH, expert.noise_dim), c), manifest.spec))

    return _rate(batches(), seconds)


def _rate(sizes: Iterator[int], seconds: float) -> float:
    for _ in range(10):  # warm caches, windows and thread pools
        next(sizes)
    started, total = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        total += next(sizes)
    return total / (time.perf_counter() - started)


def _bare(seconds: float) -> tuple[float, float]:
    """Bytes per second of a bare gRPC stream into and out of a server process."""
    command = [sys.executable, bare_stream.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
            send, receive = channel.unary_stream(bare_stream.SEND), channel.stream_unary(bare_stream.RECEIVE)
            count = int(200 * seconds)
            started = time.perf_counter()
            receive(iter([bytes(MESSAGE)] * count))
            into = count * MESSAGE / (time.perf_counter() - started)
            started = time.perf_counter()
            moved = sum(len(message) for message in send(f"{count} {MESSAGE}".encode()))
            out = moved / (time.perf_counter() - started)
        process.kill()
    return into, out


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=32, help="height and width of the images")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each rate is measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()
