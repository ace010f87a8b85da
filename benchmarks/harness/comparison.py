"""Kinds of memory in one table, from the lines of runs of `continual.py --every-task`; `kinds.py` says what each is."""

from collections.abc import Callable, Sequence

from harness import tables
from harness.lines import Line
from harness.tables import JOINT, MEMORY, NONE

HALF, ALL = 5, 10
HEADER = (
    "memory", "seed", "A5 %", "A10 %", "forgetting, points", "of samples, points", "reverse accuracy %",
    "steps a task", "minutes", "bytes a task", "growth", "bit-exact",
)  # fmt: skip


def markdown(lines: Sequence[Line]) -> str:
    """The table, what joint training reaches, and where each row comes from; nothing without lines."""
    runs = by_run(lines)
    if not runs:
        return ""
    joint = ", ".join(f"A{n} {_percent(_accuracy(lines, JOINT, n))}" for n in (HALF, ALL))
    origins = [
        f"- {tables.memory_of(own[-1])}: `{own[-1]['command']}`, {own[-1]['date']}; {own[-1]['hardware']}; "
        f"torch {own[-1]['versions']['torch']}"
        for own in runs
    ]
    return "\n".join(
        [tables.table(HEADER, map(_row, runs)), "", f"Joint training on all real data: {joint}.", "", *origins, ""]
    )


def by_run(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines of each run that measured classes over time, in the order in which runs began."""
    runs: dict[str, list[Line]] = {}
    for line in lines:
        runs.setdefault(line["run"], []).append(line)
    return [own for own in runs.values() if _classes(own)]


def forgetting(lines: Sequence[Line], figure: Callable[[Line], float], fewest: int = 1) -> float | None:
    """The mean over classes of the best figure that a class ever had, less the one that it has after the last task.

    The newest classes, which had no time to be forgotten, are left out. None if no class was measured more than once.

    Arguments:
        lines: of one run.
        figure: of a line that tells of a class; in [0, 1].
        fewest: leave out classes that were learned when fewer were known, themselves included.
    """
    histories: dict[int, dict[int, float]] = {}
    for line in _classes(lines):
        histories.setdefault(line["label"], {})[line["after"]] = figure(line)
    lost = [
        max(history.values()) - history[max(history)]
        for history in histories.values()
        if len(history) > 1 and min(history) >= fewest
    ]
    return sum(lost) / len(lost) if lost else None


def unchanged(lines: Sequence[Line]) -> tuple[int, int]:
    """How often a class gave the seeded bytes of its own task after a later one, and how often it was looked at."""
    classes = _classes(lines)
    own = {label: min(line["after"] for line in classes if line["label"] == label) for label in _labels(classes)}
    later = [line for line in classes if line["after"] > own[line["label"]]]
    return sum(line["now"]["digest"] == line["then"]["digest"] for line in later), len(later)


def _row(lines: list[Line]) -> list[str]:
    learned = [line for line in lines if line["what"] == "learning"]
    asleep = [line for line in lines if line["what"] == "sleep"]
    minutes = (sum(line["learn_seconds"] for line in learned) + sum(line["sleep_seconds"] for line in asleep)) / 60
    size = next(line["bytes"] for line in reversed(lines) if "bytes" in line)
    return [
        tables.memory_of(lines[-1]),
        str(lines[-1]["seed"]),
        *(_percent(_accuracy(lines, MEMORY, n)) for n in (HALF, ALL)),
        _percent(forgetting(lines, lambda line: line["solver"])),
        _percent(forgetting(lines, lambda line: line["now"]["reverse_accuracy"], fewest=2)),
        _percent(sum(line["quality"] for line in learned) / len(learned)),
        f"{sum(line['steps_taken'] for line in learned) / len(learned):.0f}",
        f"{minutes:.1f}",
        f"{size / len(learned):.0f}",
        f"{size / learned[0]['bytes']:.2f}",
        _exact(lines),
    ]


def _exact(lines: list[Line]) -> str:
    same, looked = unchanged(lines)
    answer = "yes" if same == looked else "**NO**" if _classes(lines)[-1]["exact"] else "no"
    return f"{answer}: {same} of {looked}" if looked else NONE


def _accuracy(lines: Sequence[Line], row: str, classes: int) -> float | None:
    found = [line for line in lines if line["what"] == "accuracy" and (line["row"], line["classes"]) == (row, classes)]
    return found[-1]["accuracy"] if found else None


def _classes(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line["what"] == "class"]


def _labels(lines: Sequence[Line]) -> set[int]:
    return {line["label"] for line in lines}


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.2f}"
