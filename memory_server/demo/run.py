"""Runs the demo: ten classes in five tasks, each taught by a learner process that then owns none of its data.

Prints accuracy with the memory, without replay and with all data kept; checks that the seeded samples of every earlier
task are the same bytes after every further task; draws what the memory holds.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory_client import Memory
from rich.console import Console
from rich.table import Table

from memory_server.demo.datasets import load, tasks_of

READY = "memory-server ready on "
MEMORY = "demo"
PROBE_ROWS, PROBE_SEED = 64, 2026
LEAST_OF_JOINT = 0.95
LEAST_OVER_NONE = 3.0
STEPS = {"digits": 300, "mnist": 600}


@dataclass(frozen=True)
class Wish:
    """What to run.

    Arguments:
        dataset: "digits" or "mnist".
        data: folder of MNIST's files.
        seed: of the memory, the classifiers and the split of the digits.
        out: where the picture goes.
    """

    dataset: str = "digits"
    data: Path | None = None
    seed: int = 0
    out: Path = Path("demo-output")


@dataclass
class Outcome:
    """What came of it, task by task."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    first: dict[int, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)

    def failures(self) -> list[str]:
        """What did not hold; empty if all did."""
        last = self.rows[-1]
        wrong = [f"samples changed: {which}" for which in self.changed]
        if last["with_memory"] < LEAST_OF_JOINT * last["joint"]:
            wrong.append(f"accuracy with memory is below {LEAST_OF_JOINT:.0%} of joint training")
        if last["with_memory"] < LEAST_OVER_NONE * last["without_replay"]:
            wrong.append(f"accuracy with memory is below {LEAST_OVER_NONE:g} times that without replay")
        wrong += [f"a learner imported {row['forbidden_imports']}" for row in self.rows if row["forbidden_imports"]]
        return wrong


def run(wish: Wish, console: Console) -> int:
    """Runs the demo and returns its exit status: 0 if every claim held, 1 if not."""
    load(wish.dataset, wish.data, wish.seed)  # complains about a wrong folder before anything is started
    started = time.monotonic()
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="memory-demo-") as data_dir, server(Path(data_dir), console) as target:
        memory = Memory(target, name=MEMORY)
        for task, classes in enumerate(tasks_of()):
            console.rule(f"task t{task}: classes {', '.join(map(str, classes))}")
            outcome.rows.append(_one_task(wish, target, task))
            _compare(memory, task, outcome)
            console.print(_sentence(outcome.rows[-1], task))
        picture = _picture(memory, wish.out)
    return _conclude(outcome, console, picture, time.monotonic() - started)


@contextmanager
def server(data_dir: Path, console: Console) -> Iterator[str]:
    """A server of its own on a free port; yields its address and stops it cleanly."""
    log = data_dir / "server.log"
    command = [sys.executable, "-m", "memory_server", "serve", "--port", "0", "--data-dir", str(data_dir / "data")]
    command += ["--learners", "1"]  # its one memory learns one task at a time: on every core
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(READY):
            raise RuntimeError(f"the server did not start:\n{log.read_text()}")
        console.print(f"server ready on {line.removeprefix(READY).strip()}, process {process.pid}")
        yield line.removeprefix(READY).strip()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def _one_task(wish: Wish, target: str, task: int) -> dict[str, Any]:
    row = _learner(wish, task, "--target", target)
    joint = _learner(wish, task, "--joint")
    row["forbidden_imports"] += joint.pop("forbidden_imports")
    return row | joint


def _learner(wish: Wish, task: int, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "memory_server.demo.learner", "--memory", MEMORY, "--task", str(task)]
    command += ["--dataset", wish.dataset, "--seed", str(wish.seed), "--steps", str(STEPS[wish.dataset])]
    command += ["--threads", str(max(1, (os.cpu_count() or 1) // 2))]  # the server has the rest
    command += ["--data", str(wish.data)] if wish.data else []
    done = subprocess.run([*command, *more], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"the learner of task t{task} failed with exit status {done.returncode}; see its message above"
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _compare(memory: Memory, newest: int, outcome: Outcome) -> None:
    for task in range(newest + 1):
        x, y = memory.sample(tasks=[f"t{task}"], n=PROBE_ROWS, seed=PROBE_SEED)
        digest = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
        if outcome.first.setdefault(task, digest) != digest:
            outcome.changed.append(f"task t{task} after t{newest}")


def _sentence(row: dict[str, Any], task: int) -> str:
    same = f"; samples of t0 to t{task - 1} unchanged to the bit" if task else ""
    return (
        f"learned {row['examples']} images in {row['learn_seconds']:.0f} s, reverse accuracy {row['quality']:.3f}; "
        f"the learner process is gone and its data with it{same}"
    )


def _picture(memory: Memory, out: Path) -> Path:
    from memory_client.grid import draw_grid  # noqa: PLC0415 - needs pillow

    out.mkdir(parents=True, exist_ok=True)
    x, y = memory.sample(n=16 * len(memory.classes), seed=PROBE_SEED)
    draw_grid(x, y, out / "grid.png")
    return out / "grid.png"


def _conclude(outcome: Outcome, console: Console, picture: Path, seconds: float) -> int:
    table = Table(title="A_t: accuracy on held-out images of all classes so far")
    for name in ("after task", "classes", "with memory", "without replay", "joint training (keeps all data)"):
        table.add_column(name, justify="right")
    for task, row in enumerate(outcome.rows):
        scores = (row["with_memory"], row["without_replay"], row["joint"])
        table.add_row(f"t{task}", str(2 * task + 2), *(f"{100 * score:.1f} %" for score in scores))
    console.print(table)
    last = outcome.rows[-1]
    console.print(
        f"with memory: {100 * last['with_memory'] / last['joint']:.1f} % of joint training, "
        f"{last['with_memory'] / max(last['without_replay'], 1e-9):.1f} times no replay; {seconds:.0f} s in all; "
        f"one row of samples per class in {picture}"
    )
    failures = outcome.failures()
    for failure in failures:
        console.print(f"[red]FAILED[/red] {failure}")
    if not failures:
        console.print(
            "[green]held[/green] seeded samples of every earlier task are unchanged to the bit, and accuracy is kept"
        )
    return 1 if failures else 0
