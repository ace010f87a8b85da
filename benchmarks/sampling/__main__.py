"""How fast memories are sampled: every figure beside another one of the same run.

    make bench-sampling ARGS="--only single,mixed --seconds 5"

Prints a table for each measurement as it is finished, and writes all rows as lines of JSON and the ratios as a plot.
Memories are made, not learned: random styles on a random base, images of 3 × 32 × 32.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch
from harness import lines
from harness.processes import DidNotStart

from memory_server.sampling.runtime import tune_malloc
from sampling import (
    compiling,
    cost,
    crowd,
    growth,
    latency,
    learner,
    mixed,
    precision,
    report,
    rivals,
    sharing,
    single,
    stalled,
    transports,
)
from sampling.bench import GENERATORS, Bench, Measurement, Row

MEASUREMENTS: dict[str, Measurement] = {
    "single": single.measure,
    "cost": cost.measure,
    "compiled": compiling.measure,
    "precision": precision.measure,
    "mixed": mixed.measure,
    "clients": crowd.measure,
    "stalled": stalled.measure,
    "sharing": sharing.measure,
    "latency": latency.measure,
    "transports": transports.measure,
    "learner": learner.measure,
    "peers": rivals.measure,
    "growth": growth.measure,
}


def main() -> None:
    """Measures what was chosen."""
    wish = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers are ended on the way out
    torch.set_num_threads(1)
    tune_malloc()  # both ends, and the generator in this process, as the server does for itself
    with tempfile.TemporaryDirectory(prefix="bs-", ignore_cleanup_errors=True) as folder:
        bench = Bench(
            Path(folder), wish.seconds, wish.device, wish.generators, wish.clients, wish.tasks, wish.peers_python
        )
        try:
            measured(bench, wish.only, wish.out)
        except KeyboardInterrupt:
            sys.exit("interrupted; what was finished is in the file")
        except DidNotStart as reason:
            sys.exit(f"{reason}\nwhat was finished is in the file")


def measured(bench: Bench, names: Sequence[str], out: Path) -> dict[str, list[Row]]:
    """Takes the measurements one after another; every row is written when it is there, the plot after each of them."""
    rows: dict[str, list[Row]] = {}
    for name in names:
        about = (MEASUREMENTS[name].__doc__ or "").splitlines()[0]
        print(f"{name}: {about}", file=sys.stderr, flush=True)
        started = time.monotonic()
        for row in MEASUREMENTS[name](bench):
            rows.setdefault(name, []).append(row)
            lines.append(out.with_suffix(".jsonl"), report.line(name, row, bench))
        print(report.markdown({name: rows.get(name, [])}), end="\n\n", flush=True)
        report.plot(rows, out.with_suffix(".png"))
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-sampling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", type=_names(MEASUREMENTS), default=(*MEASUREMENTS,), help=f"some of {','.join(MEASUREMENTS)}")
    add("--seconds", type=float, default=5.0, help="how long each point is measured")
    add("--device", default="cpu", help="of the servers and the in-process generator: cpu, cuda, cuda:1, ...")
    add("--generators", type=_names(GENERATORS), default=(*GENERATORS,), help=f"some of {','.join(GENERATORS)}")
    add("--clients", type=_numbers, default=(1, 10, 100, 500), help="how many at once, one point each")
    add("--tasks", type=_numbers, default=(10, 100, 1000), help="of a memory that grows, one point each")
    add("--peers-python", type=Path, default=Path(".venv-peers/bin/python"), help="made by make bench-peers-setup")
    add("--out", type=Path, default=Path("memory-data/bench-sampling"), help="name of the .jsonl and of the .png")
    return parser.parse_args()


def _names(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}; there are {', '.join(known)}")
        return chosen

    return parse


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


if __name__ == "__main__":
    main()
