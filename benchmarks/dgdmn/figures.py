"""The paper's figures from measured lines. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from harness.lines import Line

from dgdmn.course import averages, of_the_last
from dgdmn.robustness import LEVELS, READERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = 1.7
FEW = 10
"""Tasks that can still be told apart as curves."""
LABELS = {"noise": "standard deviation", "occlusion": "side of the square"}


def per_task(courses: Mapping[str, Line]) -> "Figure":
    """Accuracy on each task, a panel for each method: curves, or shades where tasks are many [DGDMN fig. 3, 4]."""
    *axes, beside = _panels(len(courses) + 1, columns=4)
    for axis, (method, line) in zip(axes, courses.items(), strict=True):
        if len(line["tasks"]) > FEW:
            _shades(axis, line)
        else:
            _curves(axis, line)
        axis.set_title(method)
    return _finished(axes, beside)


def averaged(courses: Mapping[str, Mapping[str, Line]]) -> "Figure":
    """Mean accuracy over the tasks so far, a panel for each sequence [DGDMN fig. 5]."""
    *axes, beside = _panels(len(courses) + 1, columns=4)
    methods = list(dict.fromkeys(method for lines in courses.values() for method in lines))
    for axis, (sequence, lines) in zip(axes, courses.items(), strict=True):
        for method, line in lines.items():
            colour = f"C{methods.index(method)}"  # of a method, and not of its place among those of one sequence
            axis.plot(_from_one(line["tasks"]), averages(line), colour, label=method)
        _of_accuracy(axis, sequence)
    return _finished(axes, beside)


def long_run(courses: Mapping[str, Line]) -> "Figure":
    """All tasks so far, the last ten, and the time it took [DGDMN fig. 7, 8a]."""
    *axes, beside = _panels(4, columns=4)
    for method, line in courses.items():
        tasks = _from_one(line["tasks"])
        axes[0].plot(tasks, averages(line), label=method)
        axes[1].plot(tasks, of_the_last(line))
        axes[2].plot(tasks, [seconds / 60 for seconds in accumulate(line["seconds"])])
    _of_accuracy(axes[0], "all tasks so far")
    _of_accuracy(axes[1], "last ten tasks")
    axes[2].set_title("training")
    axes[2].set_xlabel("tasks")
    axes[2].set_ylabel("CPU minutes")
    return _finished(axes, beside)


def spoilt(line: Line) -> "Figure":
    """Accuracy on images with noise and with a black square [DGDMN fig. 9]."""
    *axes, beside = _panels(len(LEVELS) + 1, columns=3)
    for axis, how in zip(axes, LEVELS, strict=True):
        for reader in READERS:
            axis.plot(line["levels"][how], line[how][reader], marker=".", label=reader)
        _of_accuracy(axis, how)
        axis.set_xlabel(LABELS[how])
    return _finished(axes, beside)


def _curves(axis: "Axes", line: Line) -> None:
    names = list(dict.fromkeys(line["tasks"]))
    for index, name in enumerate(names):
        known = [(t, each[index]) for t, each in enumerate(line["accuracies"], 1) if len(each) > index]
        axis.plot(*zip(*known, strict=True), marker=".", markersize=3, label=name)
    _of_accuracy(axis, "")
    axis.set_xticks(_from_one(line["tasks"]), [str(names.index(name) + 1) for name in line["tasks"]])


def _shades(axis: "Axes", line: Line) -> None:
    whole = len(line["accuracies"])
    square = [[*each, *[float("nan")] * (whole - len(each))] for each in line["accuracies"]]
    axis.imshow(list(zip(*square, strict=True)), vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    axis.set_xlabel("tasks so far")
    axis.set_ylabel("tested on")


def _panels(count: int, columns: int) -> list["Axes"]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - only figures need it

    rows = -(-count // columns)
    across = min(count, columns)
    figure = Figure(figsize=(INCHES * across, INCHES * rows))
    axes = list(figure.subplots(rows, across, squeeze=False).flat)
    for empty in axes[count:]:
        empty.remove()
    return axes[:count]


def _finished(axes: Sequence["Axes"], beside: "Axes") -> "Figure":
    """The figure, with a legend of all its curves in the panel beside them."""
    entries = {label: curve for axis in axes for curve, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    beside.axis("off")
    if entries:
        beside.legend(entries.values(), entries.keys(), loc="center left", fontsize=6)
    figure = beside.get_figure()
    assert figure is not None
    figure.tight_layout()
    return figure


def _of_accuracy(axis: "Axes", title: str) -> None:
    axis.set_title(title)
    axis.set_xlabel("tasks")
    axis.set_ylabel("accuracy")
    axis.set_ylim(0, 1.02)


def _from_one(tasks: Sequence[str]) -> range:
    return range(1, len(tasks) + 1)
