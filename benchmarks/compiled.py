"""Experts compiled for serving, beside the masked generator that a user would otherwise run.

    python benchmarks/compiled.py [--rows 64] [--seconds 1]

Random weights and random gates, as dense as training leaves them, make a memory of ten tasks; it grows as it would.
Images per second of CPU time on one thread, four ways:

- naive: the generator as wide as the memory is now, the gates multiplied in at each call, norms in evaluation mode;
- folded: a generator as wide as it was when the task was learned, effective weights in place, norms folded;
- compiled: what the server samples from;
- reduced: the same in bfloat16, for those who ask for it.

Prints one Markdown table, and how much faster each naive forward would be if its arithmetic ran as fast as a large
matrix product does: beyond that, only less arithmetic, or of fewer digits, is faster. A rate is that of the fastest of
many short turns, which the four take one after another, so that other work on the machine hurts all alike; compare
figures of one table only.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from harness.made import DENSITIES, masked
from harness.tables import table
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from dgm_core.manifest import DataSpec
from dgm_core.memories.masked import MaskedMemory
from dgm_core.networks.architecture import Generator
from dgm_core.precision import ReducedExpert
from dgm_core.pruning import live_units

TASKS = 10
CLASSES = (0, 1)
SPECS = {"28 × 28": DataSpec((1, 28, 28), "uint8"), "32 × 32 colour": DataSpec((3, 32, 32), "uint8")}
SIDE = 1024
FEWEST_TURNS = 5
CALLS = 3
"""Of a turn: long enough for the clock, short enough to be left alone by other work."""


WAYS = ("naive", "folded", "compiled", "reduced")


@dataclass(frozen=True)
class Row:
    """One task: images per CPU-second each way, and how many units each group has naively and compiled."""

    rates: tuple[float, ...]
    naive_units: str = ""
    compiled_units: str = ""

    def cells(self) -> list[str]:
        """Of the table."""
        naive, folded, compiled, reduced = self.rates
        rates = [f"{rate:,.0f}".replace(",", " ") for rate in self.rates]
        return [
            self.naive_units,
            self.compiled_units,
            *rates,
            *(f"{ratio:.2f}" for ratio in (compiled / naive, compiled / folded, reduced / naive)),
        ]


def main() -> None:
    """Measures and prints the table."""
    wish = _arguments()
    torch.set_num_threads(1)
    lines, bounds = [], []
    fastest = product_rate(wish.seconds)
    for name, spec in SPECS.items():
        for kind in DENSITIES:
            memory = made_memory(kind, spec)
            rows = [measured(memory, index, wish.rows, wish.seconds) for index in range(TASKS)]
            chosen = {"first": rows[0], "tenth": rows[-1], "all ten in turn": in_turn(rows)}
            lines += [[kind, name, task, *row.cells()] for task, row in chosen.items()]
            bounds.append(f"{kind}, {name}: {fastest / (operations(memory, wish.rows) * rows[-1].rates[0]):.2f}")
    header = (
        "kind",
        "images",
        "task",
        "units naively",
        "units compiled",
        *WAYS,
        "over naive",
        "over folded",
        "reduced over naive",
    )
    print(table(header, lines))
    print(f"\nA matrix product of {SIDE} × {SIDE}: {fastest / 1e9:.0f} GFLOP/s. Naive forward, all of it as fast:")
    print("; ".join(bounds))


def made_memory(kind: str, spec: DataSpec, tasks: int = TASKS) -> MaskedMemory:
    """A memory of tasks that nobody taught it."""
    memory = masked(kind, spec, tasks, len(CLASSES)).loaded()
    assert isinstance(memory, MaskedMemory)
    return memory


def product_rate(seconds: float) -> float:
    """Floating-point operations per CPU-second of a large matrix product."""
    a, b = torch.randn(2, SIDE, SIDE)
    (cost,) = _seconds_each([partial(torch.mm, a, b)], seconds)
    return 2 * SIDE**3 / cost


@torch.inference_mode()
def operations(memory: MaskedMemory, rows: int) -> float:
    """Floating-point operations of an image of the naive forward, of its products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        naive(memory, 0)(torch.randn(rows, memory.chosen.noise), torch.zeros(rows, dtype=torch.int64))
    return counter.get_total_flops() / rows


def naive(memory: MaskedMemory, index: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A task through the generator of the whole memory, whose newer units are closed to it."""
    gating, topology = memory.gating, memory.topologies[-1]
    network = memory.architecture.generator(topology.widths, len(CLASSES)).eval()
    state = network.state_dict()
    own = {name: _padded(t, state[name]) for name, t in memory.own[index].items()}
    network.load_state_dict({**state, **memory.ledger.weights, **own})
    weights = {c.name: network.get_parameter(c.name).detach() for c in topology.connections}
    open_now = {name: torch.zeros(shape) for name, shape in gating.shapes(topology).items()}
    gates = {name: _padded(gate.float(), open_now[name]) for name, gate in memory.ledger.pages[index].gates.items()}
    return lambda z, c: functional_call(network, gating.effective(topology, weights, gates), (z, c))


def folded(memory: MaskedMemory, index: int) -> Generator:
    """The effective weights of a task in a plain generator, its norms folded."""
    network = memory.architecture.generator(memory.topologies[index].widths, len(CLASSES))
    network.load_state_dict({**memory.ledger.effective(index), **memory.own[index]})
    return network.eval().folded()


@torch.inference_mode()
def measured(memory: MaskedMemory, index: int, rows: int, seconds: float) -> Row:
    """One task, four ways; all but the last must give the same images."""
    z, c = torch.randn(rows, memory.chosen.noise), torch.arange(rows) % len(CLASSES)
    plain = folded(memory, index)
    expert = memory.materialised(index, CLASSES)
    ways = (naive(memory, index), plain, expert.generate, ReducedExpert(expert).generate)
    expected, *others = [way(z, c) for way in ways[:-1]]
    if not all(torch.allclose(x, expected, atol=1e-4) for x in others):
        raise RuntimeError(f"task {index} of {memory.kind} is not the same function in each way")
    costs = _seconds_each([partial(way, z, c) for way in ways], seconds)
    live = [len(units) for units in live_units(plain.topology, plain.state_dict())]
    return Row(tuple(rows / cost for cost in costs), _units(memory.topologies[-1].widths), _units(live))


def in_turn(rows: Sequence[Row]) -> Row:
    """What a stream gets that takes equally many images of each task."""
    return Row(
        tuple(len(rows) / sum(1 / rate for rate in way) for way in zip(*(row.rates for row in rows), strict=True))
    )


def _padded(t: Tensor, to: Tensor) -> Tensor:
    """`to` with t in its leading corner."""
    padded = to.clone()
    padded[tuple(slice(0, extent) for extent in t.shape)] = t
    return padded


def _seconds_each(ways: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """CPU-seconds of one call of each in its fastest turn; `seconds` of wall clock for each."""
    turns: list[list[float]] = [[] for _ in ways]
    end = time.monotonic() + seconds * len(ways)
    while time.monotonic() < end or len(turns[0]) < FEWEST_TURNS:
        for way, times in zip(ways, turns, strict=True):
            started = time.process_time()
            for _ in range(CALLS):
                way()
            times.append((time.process_time() - started) / CALLS)
    return [min(times) for times in turns]


def _units(widths: Sequence[int]) -> str:
    return "-".join(map(str, widths))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64, help="images of one call; the server's tiles have up to 64")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each way is measured for each task")
    return parser.parse_args()


if __name__ == "__main__":
    main()
