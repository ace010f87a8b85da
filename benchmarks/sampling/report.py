"""Rows as a Markdown table, as lines of JSON, and as a plot. The plot needs matplotlib."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from harness import lines
from harness.lines import Line
from harness.tables import table
from memory_client.figures import INK, draw

from sampling.bench import Bench, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADER = ("what", "figure", "unit", "ratio", "over", "goal", "more")
HELD, MISSED, PLAIN = "#2a7f62", "#b5452c", "#7a8ca0"
WIDTH, ROW_HEIGHT, PANEL_HEIGHT = 7.5, 0.17, 0.55
LARGEST = 20.0
"""Ratios beyond it are drawn as this, with their number beside them."""


def markdown(rows: Mapping[str, Sequence[Row]]) -> str:
    """A table for each measurement."""
    return "\n\n".join(f"### {name}\n\n{table(HEADER, map(cells, own))}" for name, own in rows.items())


def cells(row: Row) -> list[str]:
    """Of the table."""
    more = ", ".join(f"{name} {figure(value)}" for name, value in row.detail.items())
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    goal = "" if row.goal is None or row.ratio is None else f"{row.goal}: {'held' if held(row) else 'MISSED'}"
    return [row.what, figure(row.value), row.unit, ratio, row.over, goal, more]


def held(row: Row) -> bool | None:
    """Whether a row reaches its goal; None if it has none."""
    return None if row.goal is None or row.ratio is None else row.goal.holds(row.ratio)


def figure(value: float) -> str:
    """With as many digits as it deserves."""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 100 else f"{value:.3g}"


def line(measurement: str, row: Row, bench: Bench) -> Line:
    """What one row says, with all that it takes to tell where it comes from."""
    about = {"run": "sampling", "what": measurement, "key": [row.what, bench.device]}
    goal = {} if row.goal is None else {"goal": str(row.goal), "held": held(row)}
    said = {"value": row.value, "unit": row.unit, "ratio": row.ratio, "over": row.over, "detail": row.detail}
    origin = lines.origin(torch.device(bench.device)) | {"command": command()}
    return about | said | goal | origin | {"seconds": bench.seconds}


def command() -> str:
    """As one would type it again."""
    arguments = shlex.join(sys.argv[1:])
    return f"make bench-sampling ARGS={shlex.quote(arguments)}" if arguments else "make bench-sampling"


def plot(rows: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Draws every ratio as a bar, those with a goal in the colour of what became of it, the goal as a line."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra [plot]

    drawn = {name: [row for row in own if row.ratio is not None] for name, own in rows.items()}
    drawn = {name: own for name, own in drawn.items() if own}

    def made() -> "Figure":
        heights = [PANEL_HEIGHT + ROW_HEIGHT * len(own) for own in drawn.values()]
        whole = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        panels = whole.subplots(len(drawn), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, own) in zip(panels, drawn.items(), strict=True):
            _panel(axes, name, own)
        return whole

    if drawn:
        draw(made, path)


def _panel(axes: "Axes", name: str, rows: Sequence[Row]) -> None:
    colours = {None: PLAIN, True: HELD, False: MISSED}
    ratios = [min(row.ratio or 0.0, LARGEST) for row in rows]
    places = range(len(rows))
    axes.barh(places, ratios, color=[colours[held(row)] for row in rows], height=0.7)
    for place, row, ratio in zip(places, rows, ratios, strict=True):
        axes.text(ratio, place, f" {row.ratio:.2f}", va="center", fontsize=6, color=INK)
        if row.goal is not None:
            axes.plot([row.goal.bound] * 2, [place - 0.45, place + 0.45], color=INK, linewidth=1.2)
    axes.axvline(1.0, color=INK, linewidth=0.5, linestyle=":")
    axes.set_yticks(list(places), [f"{row.what}  /  {row.over}" for row in rows], fontsize=6)
    axes.invert_yaxis()
    axes.set_title(name, loc="left")
