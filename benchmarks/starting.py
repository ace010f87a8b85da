"""How long a server takes from its start to its ready line, by how many memories it holds.

    python benchmarks/starting.py [--memories 1 100 1000] [--repeat 2]

Memories of three tasks each, made and not learned, with blobs of their own. Prints one Markdown table of the fastest of
the repeated starts. CPU time tells more than seconds on a machine that does other work, too.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from harness.made import Made, masked

from dgm_core.manifest import DataSpec, Manifest
from memory_server.store.datadir import DataDir

TASKS = 3


def main() -> None:
    """Measures and prints the table."""
    wish = _arguments()
    made = masked("dgmw", DataSpec((1, 28, 28), "uint8"), TASKS)
    print("| memories | seconds to ready | CPU seconds | resident, MB |\n|---|---|---|---|")
    for count in wish.memories:
        with tempfile.TemporaryDirectory() as folder:
            _fill(Path(folder), made, count)
            seconds, cpu, resident = map(min, zip(*(_start(folder) for _ in range(wish.repeat)), strict=True))
        print(f"| {count} | {seconds:.1f} | {cpu:.1f} | {resident / 1e6:.0f} |", flush=True)


def _fill(data_dir: Path, made: Made, count: int) -> None:
    with DataDir(data_dir) as store:
        for index in range(count):
            each = _renamed(made, index)
            store.create_memory(f"memory-{index}", each.manifest, each.blobs)


def _renamed(made: Made, index: int) -> Made:
    """The same memory with other blobs, which can be kept and not be loaded: a start loads none."""
    text, blobs = made.manifest.to_json(), {}
    for name, content in made.blobs.items():
        other = content + index.to_bytes(8, "little")
        digest = hashlib.sha256(other).hexdigest()
        text, blobs[digest] = text.replace(name, digest), other
    return Made(Manifest.from_json(text), blobs)


def _start(data_dir: str) -> tuple[float, float, float]:
    """Seconds to the ready line, CPU seconds until then, and bytes that are resident then."""
    command = [sys.executable, "-m", "memory_server", "serve", "--port", "0", "--data-dir", data_dir]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        ready = server.stdout.readline()
        seconds, process = time.monotonic() - began, psutil.Process(server.pid)
        used, resident = process.cpu_times(), process.memory_info().rss
        server.terminate()
    if not ready:
        raise SystemExit("the server did not start; run it by hand and read its log")
    return seconds, used.user + used.system, resident


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memories", type=int, nargs="+", default=[1, 100, 1000], help="how many a server holds")
    parser.add_argument("--repeat", type=int, default=2, help="starts of which the fastest counts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
