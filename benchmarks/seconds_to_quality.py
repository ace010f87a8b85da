"""How long a memory takes to learn one more class to a reverse accuracy of 95 %.

    GENERATIVE_MEMORY_DATA=DIR python benchmarks/seconds_to_quality.py --dataset mnist --kind dgmw

A memory learns some classes in one task, as its recipe will. Then it is taught the next class with growing budgets of
steps until the task reaches the wanted quality: reverse accuracy among all classes, measured by the server on the tenth
of the task's own data that it keeps out. A task below it fails and leaves the memory as it was, so that every budget
begins beside the same known classes and from the same seed. Prints the first budget that suffices and what it took.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from harness import data, lines
from memory_client import Memory, QualityTooLow
from memory_client.types import Task
from rich.console import Console

from memory_server.demo.datasets import Part
from memory_server.demo.run import server

BUDGETS = (50, 100, 200, 400, 800, 1600, 3200)


def main() -> int:
    """Prints one row per budget; the status is 1 if none suffices."""
    wish = _arguments()
    console = Console(stderr=True)
    os.environ["MEMORY_SERVER_DEVICE"] = wish.device
    try:
        real = data.load(wish.dataset, wish.seed, wish.images).train
    except data.MissingData as missing:
        console.print(f"seconds_to_quality.py: {missing}", markup=False)
        return 2
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), console) as target:
        memory = Memory(target, name="timing", kind=wish.kind, options={"seed": wish.seed})
        known = real.of(tuple(range(wish.known)))
        memory.learn_task((known.x, known.y), task="known", steps=wish.known_steps)
        print(f"| steps | seconds | class {wish.known} beside {wish.known} others |\n|---|---|---|")
        reached = first_budget(memory, real.of((wish.known,)), wish.budgets, wish.quality)
    device = torch.device("cuda" if wish.device != "cpu" and torch.cuda.is_available() else "cpu")
    print(f"\n{wish.dataset}, {wish.kind}, seed {wish.seed}; {lines.hardware(device)}, torch {torch.__version__}")
    return 1 if reached is None else 0


def first_budget(memory: Memory, real: Part, budgets: Sequence[int], quality: float) -> Task | None:
    """Teaches one task with growing budgets of steps; the task with the first that reaches the quality, or None."""
    for steps in budgets:
        started = time.monotonic()
        try:
            task = memory.learn_task((real.x, real.y), task=f"with-{steps}", steps=steps, min_quality=quality)
        except QualityTooLow as short:
            print(f"| {steps} | {time.monotonic() - started:.0f} | {short} |", flush=True)
        else:
            print(f"| {steps} | {time.monotonic() - started:.0f} | **reached {task.quality:.3f}** |", flush=True)
            return task
    return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", choices=data.NAMES, default="mnist")
    add("--kind", default="dgmw", help="of the memory")
    add("--seed", type=int, default=0)
    add("--known", type=int, choices=range(1, 10), default=5, help="classes that the memory knows; the next is taught")
    add("--known-steps", type=int, help="for these; else what the recipe takes")
    add("--quality", type=float, default=0.95, help="reverse accuracy to reach")
    add("--budgets", type=int, nargs="+", default=BUDGETS, help="steps, in growing order")
    add("--images", type=int, help="at most so many of each class to learn from")
    add("--device", default="auto", help="cpu, cuda, ...; auto: CUDA if there is any")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
