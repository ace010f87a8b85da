"""Ingest over loopback, beside a bare gRPC stream of the same message size.

    python benchmarks/wire.py [--side 32] [--channels 3] [--seconds 5]

The data is random: its speed is that of any data of this size. Prints one Markdown table; both rows come from one
run, so compare rows of one table only. Sampling is measured by `make bench-sampling`.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import bare_stream
from memory_client import Memory
from rich.console import Console

from memory_server.demo.run import server


def main() -> None:
    """Measures and prints the table."""
    wish = _arguments()
    shape = (wish.channels, wish.side, wish.side)
    size = int(np.prod(shape))
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), Console(stderr=True)) as target:
        ingest = _ingest(Memory(target, name="bench", options={"seed": 0}), shape)
    bare, _ = bare_stream.rates(wish.seconds)
    print(
        f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; ",
        end="",
    )
    print(f"images {shape}, bare messages of {bare_stream.MESSAGE // 1024} KiB\n")
    print("| what | MB/s | images/s | ratio |\n|---|---|---|---|")
    _row("ingest: bare gRPC client stream", bare, size, None)
    _row("ingest: `learn_task` upload, checked and digested", ingest, size, bare)


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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=32, help="height and width of the images")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each rate is measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()
