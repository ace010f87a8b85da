"""A picture of how a memory grew. Needs matplotlib.

(a) what the masks of each task select, layer by layer   after Ostapenko et al. 2019, Fig. 3 (a)
(b) size of the generator against the worst case         Fig. 4
(c) masks of the newest task while it was trained        Fig. 3 (b)
(d) bytes on disk per task                               Table 4

Of a memory whose tasks modulate a frozen base, after Cong et al. 2020, Table 1:

(a) parameters of each task's style, by layer
(b) all that each task stores against a style that is stored whole
(c) bytes on disk per task

Of any other kind, what it tells of the first four, in its own words.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import EngFormatter, PercentFormatter
from matplotlib.transforms import ScaledTranslation

from memory_client.analysis import MASKS, STYLE, LayerUsage, TaskAnalysis
from memory_client.errors import InvalidInput
from memory_client.figures import INK, draw
from memory_client.quantities import quantity
from memory_client.types import MemoryInfo

Parts = Sequence[tuple[str, Any, Sequence[float]]]
"""What bars are stacked from, bottom first: its name, its colour, and one height per task."""

# The palette of Okabe and Ito, which people of any colour vision can tell apart.
_ORANGE, _SKY, _GREEN, _BLUE, _PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#CC79A7"
_GREY, _PALE = "#A8A8A8", "#EDEDED"
_WIDTH, _PANEL_HEIGHT, _LAYER_HEIGHT, _ENTRY_HEIGHT, _LEGEND_GAP = 10.0, 3.3, 1.8, 0.07, 0.42  # inches
_MOST_COLUMNS, _MOST_MARKERS, _FEWEST_SLOTS, _LONGEST_TICK, _LONGEST_NAME = 5, 20, 4, 4, 15


def draw_growth(memory: MemoryInfo, path: Path) -> None:
    """Draws how a memory grew into an image file, in the format that its name ends with.

    Raises:
        InvalidInput: there is nothing to draw, or the name of the file says no format that matplotlib writes.
    """
    tasks = [task for task in memory.analysis if task.layers or task.bytes]
    if not tasks:
        why = f"{memory.kind} tells nothing of single tasks" if memory.analysis else "it has not learned anything yet"
        raise InvalidInput(f"there is no growth of memory {memory.name!r} to draw: {why}")
    figure = _style_figure if tasks[-1].gate == STYLE else _figure
    draw(lambda: figure(memory, tasks), path)


def _figure(memory: MemoryInfo, tasks: Sequence[TaskAnalysis]) -> Figure:
    rows = -(-len(_layers(tasks[-1])) // _MOST_COLUMNS)
    heights = [rows * _LAYER_HEIGHT + 0.7] * bool(rows) + [_PANEL_HEIGHT + len(tasks[-1].layers) * _ENTRY_HEIGHT]
    figure = Figure((_WIDTH, sum(heights) + 0.3), layout="constrained")
    figure.suptitle(_title(memory, tasks), size=10)
    *above, below = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights, hspace=0.05)[:, 0]
    for subfigure in above:
        _draw_usage(subfigure, tasks, rows)
    weights, own = ("weights", "norms, head, header") if tasks[-1].gate in MASKS else ("values", "own, header")
    parts = (
        (weights, _GREEN, [task.weight_bytes for task in tasks]),
        ("masks", _PURPLE, [task.mask_bytes for task in tasks]),
        (own, _SKY, [task.own_bytes for task in tasks]),
    )
    kept = [part for part in parts if any(part[2]) or part[0] == own]
    panels: list[Callable[[Axes, str], None]] = [
        *([partial(_draw_size, tasks=tasks)] * any(task.parameters for task in tasks)),
        *([partial(_draw_masks, task=tasks[-1])] * bool(tasks[-1].trajectory)),
        partial(_draw_disk, tasks=tasks, parts=kept),
    ]
    letters = "bcd" if above else "abc"
    axes = below.subplots(1, len(panels), squeeze=False)[0]
    for draw_panel, panel, letter in zip(panels, axes, letters, strict=False):
        draw_panel(panel, f"({letter})")
    return figure


def _style_figure(memory: MemoryInfo, tasks: Sequence[TaskAnalysis]) -> Figure:
    figure = Figure((_WIDTH, _PANEL_HEIGHT + len(tasks[-1].layers) * _ENTRY_HEIGHT + 0.6), layout="constrained")
    figure.suptitle(_title(memory, tasks), size=10)
    layers, size, disk = figure.subplots(1, 3)
    _draw_style_layers(layers, tasks)
    _draw_style_size(size, tasks)
    parts = (
        ("scales and shifts", _GREEN, [task.weight_bytes for task in tasks]),
        ("biases, header", _SKY, [task.own_bytes for task in tasks]),
    )
    _draw_disk(disk, "(c)", tasks=tasks, parts=parts)
    return figure


def _draw_usage(figure: SubFigure, tasks: Sequence[TaskAnalysis], rows: int) -> None:
    """(a): of each layer, and of all together, the share of gates by what became of them."""
    names = _layers(tasks[-1])
    columns = -(-len(names) // rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for panel in panels.flat[len(names) :]:
        panel.remove()
    for panel, name in zip(panels.flat, names, strict=False):
        uses = [_layer(task, name) for task in tasks]
        _stack(panel, _usage_parts(uses))
        _name_tasks(panel, tasks, most=25 // columns)
        panel.set_title(f"{name or 'all layers'}\n{_extent(uses)} {tasks[-1].gate}s", size=7)
        panel.yaxis.set_major_formatter(PercentFormatter())
        panel.set_ylim(0, 100)
    for panel in panels[:, 0]:
        panel.set_ylabel(f"{tasks[-1].gate}s of the layer")
    figure.suptitle(
        f"(a) Use of the {tasks[-1].gate}s of each layer, by task", x=0.01, ha="left", weight="bold", size=8
    )
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _usage_parts(uses: Sequence[LayerUsage]) -> Parts:
    def shares(*counts: int) -> list[float]:
        return [100 * count / max(1, use.size) for count, use in zip(counts, uses, strict=True)]

    return (
        ("reused from earlier tasks", _BLUE, shares(*(use.reused for use in uses))),
        ("newly reserved", _ORANGE, shares(*(use.reserved for use in uses))),
        ("reserved by earlier tasks, not used", _GREY, shares(*(use.unused for use in uses))),
        ("free", _PALE, shares(*(use.free for use in uses))),
    )


def _draw_size(panel: Axes, letter: str, tasks: Sequence[TaskAnalysis]) -> None:
    """(b): the generator's size task by task, between the first task's and the worst case."""
    what = "generator" if tasks[-1].gate in MASKS else "parameters"
    worst, sizes = [task.worst_case for task in tasks], [task.parameters for task in tasks]
    square, dot = ("s", "o") if len(tasks) <= _MOST_MARKERS else ("", "")
    panel.plot(worst, color=INK, ls="--", marker=square, ms=5, mfc="none", label="worst case")
    now = f", now {sizes[-1] / worst[-1]:.0%} of the worst case" if worst[-1] else ""
    panel.plot(sizes, color=_BLUE, marker=dot, ms=3, label=f"{what}{now}")
    panel.axhline(sizes[0], color=_ORANGE, ls=":", label=f"{what} at the first task")
    panel.set_ylim(0, 1.1 * max(*worst, *sizes))
    panel.yaxis.set_major_formatter(EngFormatter())
    title, unit = ("Size of the generator", "shared weights") if what == "generator" else ("Parameters", what)
    _finish(panel, f"{letter} {title}", unit)
    _along_tasks(panel, tasks)


def _draw_style_layers(panel: Axes, tasks: Sequence[TaskAnalysis]) -> None:
    """(a) of styles: what each task stores for each layer."""
    names = [layer.layer for layer in tasks[-1].layers]
    stored = [[_layer(task, name).reserved for task in tasks] for name in names]
    _stack(
        panel,
        [(name, _shade(i, len(names)), counts) for i, (name, counts) in enumerate(zip(names, stored, strict=True))],
    )
    panel.yaxis.set_major_formatter(EngFormatter())
    _finish(panel, "(a) Scales and shifts, by layer", "parameters stored")
    _along_tasks(panel, tasks)


def _draw_style_size(panel: Axes, tasks: Sequence[TaskAnalysis]) -> None:
    """(b) of styles: the parameters that each task stores, against those of a style that is stored whole."""
    whole, stored = [task.worst_case for task in tasks], [task.parameters for task in tasks]
    square, dot = ("s", "o") if len(tasks) <= _MOST_MARKERS else ("", "")
    panel.plot(whole, color=INK, ls="--", marker=square, ms=5, mfc="none", label="stored whole")
    panel.plot(stored, color=_BLUE, marker=dot, ms=3, label=f"stored, now {stored[-1] / whole[-1]:.1%} of that")
    panel.set_ylim(0, 1.1 * max(*whole, *stored))
    panel.yaxis.set_major_formatter(EngFormatter())
    _finish(panel, "(b) Parameters of each task", "parameters of the style")
    _along_tasks(panel, tasks)


def _draw_masks(panel: Axes, letter: str, task: TaskAnalysis) -> None:
    """(c): the occupancy of each layer over the steps of one task."""
    steps = [point.step for point in task.trajectory]
    for index, layer in enumerate(task.layers):
        shade = _shade(index, len(task.layers))
        occupancy = [point.occupancy[layer.layer] for point in task.trajectory]
        panel.plot(steps, occupancy, color=shade, marker="o", ms=2, label=layer.layer)
    if task.hardened is not None:
        panel.axvline(task.hardened, color=INK, ls="--", lw=1, label="masks hardened")
    panel.set_ylim(0, 1.08 * max(max(point.occupancy.values(), default=0) for point in task.trajectory) or 1)
    _finish(panel, f"{letter} Masks while {_short(task.task)} was learned", "mean of the mask")
    panel.set_xlabel("training step")


def _draw_disk(panel: Axes, letter: str, tasks: Sequence[TaskAnalysis], parts: Parts) -> None:
    """The last: bytes of each task's file."""
    _stack(panel, [(f"{name} ({quantity(sum(sizes), 'B')} in all)", colour, sizes) for name, colour, sizes in parts])
    panel.yaxis.set_major_formatter(EngFormatter("B"))
    _finish(panel, f"{letter} Size on disk", "file of the task")
    _along_tasks(panel, tasks)


def _stack(panel: Axes, parts: Parts) -> None:
    tasks = len(parts[0][2])
    base = [0.0] * tasks
    for name, colour, heights in parts:
        panel.bar(range(tasks), heights, 0.85 if tasks <= _MOST_MARKERS else 1.0, base, color=colour, label=name)
        base = [low + height for low, height in zip(base, heights, strict=True)]


def _finish(panel: Axes, title: str, ylabel: str) -> None:
    panel.set_title(title, loc="left", weight="bold")
    panel.set_ylabel(ylabel)
    below = panel.transAxes + ScaledTranslation(0, -_LEGEND_GAP, panel.figure.dpi_scale_trans)
    columns = 1 + (len(panel.get_legend_handles_labels()[1]) > 4)
    panel.legend(
        loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, borderaxespad=0, ncols=columns, columnspacing=1
    )


def _name_tasks(panel: Axes, tasks: Sequence[TaskAnalysis], most: int) -> None:
    """Names tasks along the x axis, at most so many, or numbers them if names are long; leaves room beside few."""
    at = range(0, len(tasks), -(-len(tasks) // most))
    panel.set_xticks(at, [tasks[index].task if _named(tasks) else str(index + 1) for index in at])
    room = max(0.0, (_FEWEST_SLOTS - len(tasks)) / 2) + 0.6
    panel.set_xlim(-room, len(tasks) - 1 + room)


def _along_tasks(panel: Axes, tasks: Sequence[TaskAnalysis]) -> None:
    """Names tasks along the x axis, and the axis itself."""
    _name_tasks(panel, tasks, most=8)
    panel.set_xlabel("task" if _named(tasks) else "task, in the order of learning")


def _title(memory: MemoryInfo, tasks: Sequence[TaskAnalysis]) -> str:
    return f"Memory {memory.name} ({memory.kind}): {len(tasks)} task{'s' * (len(tasks) > 1)}"


def _shade(index: int, layers: int) -> tuple[float, ...]:
    """Of a layer's curve or bar: input side dark, output side light."""
    shade: tuple[float, ...] = colormaps["viridis"](0.85 * index / max(1, layers - 1))
    return shade


def _named(tasks: Sequence[TaskAnalysis]) -> bool:
    return all(len(task.task) <= _LONGEST_TICK for task in tasks)


def _layers(task: TaskAnalysis) -> list[str]:
    """What has a panel of its own: all layers together, and each if there are several."""
    names = [layer.layer for layer in task.layers]
    return ["", *names] if len(names) > 1 else names


def _layer(task: TaskAnalysis, name: str) -> LayerUsage:
    found = (layer for layer in task.layers if layer.layer == name)
    return next(found, LayerUsage(name, 0, 0, 0, 0)) if name else task.usage


def _extent(uses: Sequence[LayerUsage]) -> str:
    first, last = quantity(uses[0].size), quantity(uses[-1].size)
    return first if first == last else f"{first} → {last}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:7]}…{name[-7:]}"
