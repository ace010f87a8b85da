"""Compiled experts beside the naive masked forward: the table of compiled.py in two rows."""

from collections.abc import Iterator

import compiled

from sampling.bench import Bench, Goal, Row

KIND, IMAGES = "dgmw", "32 × 32 colour"
ROWS = 64


def measure(bench: Bench) -> Iterator[Row]:
    """Compiled experts of a dgmw of ten tasks, beside the naive masked forward; on the CPU, one thread, no server."""
    bench.say(f"{compiled.TASKS} tasks, four ways each; all kinds and columns: python benchmarks/compiled.py")
    memory = compiled.made_memory(KIND, compiled.SPECS[IMAGES], compiled.TASKS)
    seconds = bench.seconds / compiled.TASKS
    rows = [compiled.measured(memory, index, ROWS, seconds) for index in range(compiled.TASKS)]
    chosen = {"first task": rows[0], "tenth task": rows[-1], "all ten in turn": compiled.in_turn(rows)}
    for task, row in chosen.items():
        naive, folded, rate, reduced = row.rates
        goal = Goal(3.0) if row is chosen["all ten in turn"] else None
        detail = {"naive": naive, "folded": folded, "reduced": reduced}
        yield Row(f"{KIND}, {task}", rate, "images/CPU-s", rate / naive, "naive forward", goal, detail)
