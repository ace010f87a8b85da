"""How far the samples of the first task move from its real data while later tasks are learned. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from memory_client.figures import INK, draw

from harness import comparison, tables
from harness.lines import Line

SIZE = (5.6, 3.4)  # inches
LINEAR = 1e-2  # distances below it, which may be negative, are drawn to scale
Point = tuple[int, float, float]


def points(lines: Sequence[Line]) -> list[Point]:
    """Of one run, after each task: classes known, kernel distance of the first class, its standard error."""
    own = [line for line in lines if line["what"] == "class" and line["label"] == 0]
    told = {line["after"]: (line["now"]["kernel_distance"], line["now"]["standard_error"]) for line in own}
    return [(after, *told[after]) for after in sorted(told)]


def plot(lines: Sequence[Line], path: Path) -> None:
    """Draws a curve for each run, dashed where the kind promises that it is flat; nothing if no run has one."""
    runs = [own for own in comparison.by_run(lines) if len(points(own)) > 1]
    if runs:
        draw(lambda: _figure(runs), path)


def _figure(runs: Sequence[Sequence[Line]]) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for own in runs:
        known, distances, errors = zip(*points(own), strict=True)
        exact = next(line["exact"] for line in own if line["what"] == "class")
        promise = "frozen" if exact else "retrained"
        style = "--" if exact else "-"
        name = f"{tables.memory_of(own[-1])} ({promise})"
        axes.errorbar(known, distances, [2 * error for error in errors], linestyle=style, marker=".", label=name)
    axes.set_yscale("symlog", linthresh=LINEAR)
    axes.axhline(0.0, color=INK, linewidth=0.5, linestyle=":")
    axes.set_xticks(sorted({known for own in runs for known, _, _ in points(own)}))
    axes.set_xlabel("classes learned so far")
    axes.set_ylabel("kernel distance of the first class")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
