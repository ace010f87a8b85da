"""How long one task takes with the default recipe, and how good the estimate was that its learner saw at the start.

    GENERATIVE_MEMORY_DATA=DIR python benchmarks/learning_time.py [--images 1200]

Teaches two classes of CIFAR-10 (DIR/cifar10/train.parquet, 32 × 32 colour), half of the images each. Without
GENERATIVE_MEMORY_DATA it takes random images, which cost the same time and are worth nothing.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from memory_client import Memory
from memory_client.files import only_classes, read_parquet
from rich.console import Console

from memory_server.demo.run import server

CLASSES = ("1", "8")  # automobile, ship


def main() -> None:
    """Teaches one task and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1200)
    wish = parser.parse_args()
    x, y = _data(wish.images)
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), Console(stderr=True)) as target:
        memory = Memory(target, name="timing", options={"seed": 0})
        started = time.monotonic()
        handle = memory.learn_task((x, y), task="t0", wait=False)
        estimate = next(
            task.progress.seconds_left
            for task in handle.watch()
            if task.progress is not None and (task.progress.seconds_left or 0) > 0
        )
        task = handle.result()
        print(
            f"{len(x)} images {x.shape[1:]}, {task.steps} steps: {time.monotonic() - started:.0f} s from first byte to "
            f"commit (first estimate {estimate:.0f} s), reverse accuracy {task.quality:.3f}; {os.cpu_count()} cores"
        )


def _data(images: int) -> tuple[np.ndarray, np.ndarray]:
    folder = os.environ.get("GENERATIVE_MEMORY_DATA")
    if folder is None:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8), np.arange(images) % len(CLASSES)
    parts = list(only_classes(read_parquet(Path(folder) / "cifar10" / "train.parquet"), CLASSES))
    x, y = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    rows = np.concatenate([np.flatnonzero(y == label)[: images // len(CLASSES)] for label in np.unique(y)])
    return x[rows], y[rows]


if __name__ == "__main__":
    main()
