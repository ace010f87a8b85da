"""All kinds of memory in one table: ten classes of MNIST, one a task, each kind through the real server and client.

    GENERATIVE_MEMORY_DATA=DIR make bench-kinds
    GENERATIVE_MEMORY_DATA=DIR make bench-kinds ARGS="--kinds dgmw mergan mergan:replay=joint --seconds 30"

Runs `benchmarks/continual.py --every-task` for every kind; what is not named below is passed on to it. Each kind has a
folder under --state, so that the same command continues what was stopped, and every figure is a line of --out. On a CPU
as many kinds are taught at a time as there are cores, each on cores of its own, and each task may take --seconds, by
default so many that all kinds are through within 90 minutes on two cores; with --device cuda one kind follows the other
and takes what its recipe takes. Prints the table, and draws into the .png beside --out how far the first class has
drifted. A kind with options is taught only if --kinds names it, as in the second line: with joint retraining beside the
six kinds, two cores would have four rounds in place of three, and each task less time. The columns:

    A5, A10           accuracy on the real test images of 5 and 10 classes of a fresh classifier that was trained on
                      samples of the memory alone
    forgetting        of the memory's own solver: the mean over all classes but the newest of the best accuracy that it
                      ever had on real test images of the class, from its own task on, less that after the last task.
                      The solver has a single head, so that a class that is alone begins at 100 %
    of samples        the same of the reverse accuracy of a class among those that were known when it was learned, by a
                      linear discriminant of samples alone: 0 where samples stay as they are. The first class, which no
                      other could be mistaken for, is left out
    reverse accuracy  mean over the tasks of the quality that the server measured when each was learned
    steps a task      of the generator: mean over the tasks
    minutes           that the server took to learn all tasks, sleep included
    bytes a task      of all that the newest revision needs on disk, over the number of tasks
    growth            those bytes after the last task over those after the first
    bit-exact         whether the seeded samples of every class were the same bytes after each later task; of how many

Status 1: the bytes of a kind moved that promises that they do not. 3: --stop-after-seconds were over.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import comparison, drift, lines
from harness.tables import JOINT, MEMORY

from dgm_core.memories import KINDS

SCRIPT = Path(__file__).with_name("continual.py")
ON_A_CPU = ("--measured", "500", "--classifier-steps", "400")
SECONDS = 130.0
WRONG, UNFINISHED = 1, 3
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Subject:
    """A kind with its options, as "mergan:replay=joint,seed=1" names it."""

    text: str

    @property
    def arguments(self) -> list[str]:
        """For continual.py."""
        kind, _, options = self.text.partition(":")
        return ["--kind", kind, *(["--options", *options.split(",")] if options else [])]


def main() -> int:
    """Teaches every kind what it has not been taught yet, prints the table and draws the figure."""
    wish, more = arguments()
    status = 0 if wish.table else taught(wish, more)
    known = lines.read(wish.out)
    print(comparison.markdown(known), end="")
    drift.plot(known, wish.out.with_suffix(".png"))
    return status


def taught(wish: argparse.Namespace, more: list[str]) -> int:
    """One run for each kind; the status. A kind whose bytes moved does not keep the others from their turn."""
    started, status = time.monotonic(), 0

    def commands() -> Iterator[list[str]]:
        nonlocal status
        for kind in wish.kinds:
            limit: list[str] = []
            if wish.stop_after_seconds is not None:
                left = wish.stop_after_seconds - (time.monotonic() - started)
                if left <= 0:
                    status = UNFINISHED
                limit = ["--stop-after-seconds", str(left)]
            if status not in (0, WRONG):
                return
            command = [sys.executable, str(SCRIPT), *deciding(wish, kind, more), *places(wish, kind), *limit]
            print(shlex.join(command), file=sys.stderr, flush=True)
            yield command

    for ended in statuses(commands(), shares(wish)):
        status = ended if status in (0, WRONG) and ended else status
    return status


def shares(wish: argparse.Namespace) -> list[set[int]]:
    """The cores of each of the kinds that are taught at a time."""
    cores = sorted(os.sched_getaffinity(0))
    lanes = 1 if _on_cuda(wish) else max(1, min(wish.side_by_side or len(cores), len(cores), len(wish.kinds)))
    each = len(cores) // lanes
    return [set(cores[lane * each : (lane + 1) * each]) for lane in range(lanes)]


def deciding(wish: argparse.Namespace, kind: Subject, more: list[str]) -> list[str]:
    """What decides about the results of a run; `more` has the last word."""
    cuda = _on_cuda(wish)
    given = [(name, getattr(wish, name)) for name in ("steps", "seconds")]
    bounds = [word for name, value in given if value is not None for word in (f"--{name}", str(value))]
    if not (bounds or cuda):
        bounds = ["--seconds", str(SECONDS)]
    rows = ["--every-task", "--rows", MEMORY, JOINT]
    lanes = shares(wish)
    threads = ["--threads", str(len(lanes[0]))] if len(lanes) > 1 else []
    return [*kind.arguments, "--device", wish.device, *rows, *bounds, *(() if cuda else ON_A_CPU), *threads, *more]


def places(wish: argparse.Namespace, kind: Subject) -> list[str]:
    """Where a run keeps what it has; all kinds are measured in one feature space."""
    return ["--state", str(wish.state / kind.text), "--features", str(wish.state), "--out", str(wish.out)]


def statuses(commands: Iterator[list[str]], lanes: Sequence[set[int]]) -> Iterator[int]:
    """Those of commands as they end, whose tables are not wanted here; what still runs ends when this process does.

    Arguments:
        commands: each is asked for when there is a lane for it.
        lanes: the cores of each of those that run at a time.
    """
    free, running = list(lanes), dict[subprocess.Popen[bytes], set[int]]()
    try:
        while True:
            while free and (command := next(commands, None)) is not None:
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
                running[process] = free.pop(0)
                os.sched_setaffinity(process.pid, running[process])
            if not running:
                return
            time.sleep(POLL_SECONDS)
            for process in [each for each in running if each.poll() is not None]:
                free.append(running.pop(process))
                yield process.returncode
    finally:
        for process in running:
            process.terminate()  # and not killed, so that it stops its server
        for process in running:
            process.wait()


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it is for continual.py."""
    parser = argparse.ArgumentParser(
        prog="make bench-kinds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--kinds", nargs="+", type=_subject, default=[Subject(kind) for kind in KINDS], metavar="KIND[:NAME=VALUE,...]")
    add("--device", default="cpu", help="cpu, cuda, ...")
    add("--seconds", type=float, help=f"for each task to learn; on a CPU {SECONDS:g} unless --steps are given")
    add("--steps", type=int, help="of the generator for each task")
    add("--side-by-side", type=int, metavar="N", help="kinds at a time; on a CPU as many as there are cores")
    add("--state", type=Path, default=Path("memory-data/bench-kinds"), help="folder of the runs")
    add("--out", type=Path, default=Path("memory-data/bench-kinds.jsonl"), help="lines of results; the .png is beside")
    add("--stop-after-seconds", type=float, help="begin nothing that would probably end later than that")
    add("--table", action="store_true", help="teach nothing: print and draw what --out holds")
    return parser.parse_known_args()


def _on_cuda(wish: argparse.Namespace) -> bool:
    return bool(wish.device.startswith("cuda"))


def _subject(text: str) -> Subject:
    kind = text.partition(":")[0]
    if kind not in KINDS:
        raise argparse.ArgumentTypeError(f"there is no memory kind {kind!r}; the kinds are {', '.join(KINDS)}")
    return Subject(text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the run under way is stopped, too
    sys.exit(main())
