"""One learner process: owns the data of one task, teaches it to the memory, trains a classifier, and is gone.

It talks to the server through the SDK alone and never imports the mathematics behind it. Its last line on standard
output is JSON for the parent process; its progress goes to standard error.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from memory_client import Memory

from memory_server.demo.classifier import Batch, accuracy, endless, train
from memory_server.demo.datasets import Part, load, tasks_of

BATCH = 128
FORBIDDEN = "dgm_core"


def main() -> None:
    """Runs one learner, or with --joint the one that keeps all data, for comparison."""
    wish = _arguments()
    torch.set_num_threads(wish.threads)
    data = load(wish.dataset, wish.data, wish.seed)
    classes = tasks_of()[wish.task]
    seen = tuple(label for task in tasks_of()[: wish.task + 1] for label in task)
    test = data.test.of(seen)
    result: dict[str, object]
    if wish.joint:
        result = {"joint": _score(endless(*_pair(data.train.of(seen)), BATCH, wish.seed), seen, test, wish)}
    else:
        result = _learn(wish, data.train.of(classes), seen, test)
    result["forbidden_imports"] = [name for name in sys.modules if name.split(".")[0] == FORBIDDEN]
    print(json.dumps(result))  # noqa: T201 - this line is the result


def _learn(wish: argparse.Namespace, real: Part, seen: tuple[int, ...], test: Part) -> dict[str, object]:
    memory = Memory(wish.target, name=wish.memory, options={"seed": wish.seed})
    learned = memory.learn_task(_pair(real), task=f"t{wish.task}")
    earlier = [label for label in seen if label not in set(real.y.tolist())]
    current = endless(*_pair(real), BATCH * 2 // len(seen) if earlier else BATCH, wish.seed)
    with_memory = _score(_mixed(current, memory, earlier), seen, test, wish)
    without = _score(endless(*_pair(real), BATCH, wish.seed), seen, test, wish)
    return {
        "with_memory": with_memory,
        "without_replay": without,
        "quality": learned.quality,
        "learn_seconds": learned.learn_seconds,
        "examples": len(real.x),
    }


def _mixed(current: Iterator[Batch], memory: Memory, earlier: list[int]) -> Iterator[Batch]:
    """Real batches of this task, each filled up with replay so that every class is seen equally often."""
    if not earlier:
        yield from current
    real = next(current)
    replay = memory.stream(classes=earlier, batch_size=BATCH - len(real[1]))
    for (x, y), (x_old, y_old) in zip(current, replay, strict=False):
        yield np.concatenate([x, x_old]), np.concatenate([y, y_old])


def _score(batches: Iterator[Batch], seen: tuple[int, ...], test: Part, wish: argparse.Namespace) -> float:
    return accuracy(train(batches, len(seen), wish.steps, wish.seed), test.x, test.y)


def _pair(part: Part) -> Batch:
    return part.x, part.y


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One learner of the demo; started by `memory-server demo`.")
    parser.add_argument("--target", default="")
    parser.add_argument("--memory", default="demo")
    parser.add_argument("--task", type=int, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--joint", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
