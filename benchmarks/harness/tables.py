"""Lines of results as the Markdown of RESULTS.md."""

from collections.abc import Iterable, Sequence

from harness.lines import Line

MEMORY, REDUCED, WITH_NEWEST = "memory", "memory in reduced precision", "memory and newest real"
JOINT, NEWEST_ONLY = "joint", "newest real only"
ROWS = (MEMORY, REDUCED, WITH_NEWEST, JOINT, NEWEST_ONLY)
PHASES = ("start", "generator", "quality", "solver", "commit")
NONE = "–"


def markdown(lines: Sequence[Line]) -> str:
    """All tables: accuracy over all runs, then for each run what learning took and each class over time."""
    runs = dict.fromkeys(line["run"] for line in lines)
    parts = [_accuracies(lines)]
    for run in runs:
        own = [line for line in lines if line["run"] == run]
        parts += [
            f"### {_name(own[-1])}\n\n`{own[-1]['command']}`, {own[-1]['date']}; {own[-1]['hardware']}; "
            f"torch {own[-1]['versions']['torch']}",
            _learning(own),
            _classes(own),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _accuracies(lines: Sequence[Line]) -> str:
    measured: dict[tuple[str, str], dict[str, Line]] = {}
    for line in lines:
        if line["what"] == "accuracy":
            measured.setdefault((line["run"], line["task"]), {})[line["row"]] = line
    header = ("data", "memory", "seed", "after task", "classes", *ROWS, "memory / joint", "date")
    return table(header, [_accuracy_row(rows) for rows in measured.values()])


def _accuracy_row(rows: dict[str, Line]) -> list[str]:
    line = next(iter(rows.values()))
    share = NONE
    if MEMORY in rows and JOINT in rows:
        share = _percent(rows[MEMORY]["accuracy"] / rows[JOINT]["accuracy"])
    scores = [_percent(rows[row]["accuracy"]) if row in rows else NONE for row in ROWS]
    return [
        line["dataset"],
        memory_of(line),
        str(line["seed"]),
        line["task"],
        str(line["classes"]),
        *scores,
        share,
        line["date"],
    ]


def _learning(lines: Sequence[Line]) -> str:
    header = ("task", "new classes", "images", "steps", "seconds", *PHASES, "reverse accuracy", "bytes of the memory")
    rows = [
        [
            line["task"],
            " ".join(map(str, line["new_classes"])),
            str(line["examples"]),
            str(line["steps_taken"]),
            f"{line['learn_seconds']:.0f}",
            *(f"{line['split'][phase]:.1f}" if phase in line["split"] else NONE for phase in PHASES),
            f"{line['quality']:.4f}",
            str(line["bytes"]),
        ]
        for line in lines
        if line["what"] == "learning"
    ]
    return table(header, rows)


def _classes(lines: Sequence[Line]) -> str:
    header = (
        "class",
        "learned as",
        "reverse accuracy",
        "after all",
        "among all classes",
        "kernel distance",
        "after all",
        "coverage",
        "after all",
        "density",
        "same bytes",
    )
    rows = [
        [
            str(line["label"]),
            line["task"],
            *(_percent(line[when]["reverse_accuracy"]) for when in ("then", "now")),
            _percent(line["among_all"]),
            *(f"{line[when]['kernel_distance']:.4f} ± {line[when]['standard_error']:.4f}" for when in ("then", "now")),
            *(f"{line[when]['coverage']:.3f}" for when in ("then", "now")),
            f"{line['now']['density']:.3f}",
            "yes" if line["then"]["digest"] == line["now"]["digest"] else "**NO**",
        ]
        for line in at_the_end(lines)
    ]
    return table(header, rows)


def at_the_end(lines: Sequence[Line]) -> list[Line]:
    """Of the lines that tell of a class, those after the last task."""
    own = [line for line in lines if line["what"] == "class"]
    last = max((line["after"] for line in own), default=0)
    return [line for line in own if line["after"] == last]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; nothing without rows."""
    body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *body]) if body else ""


def _name(line: Line) -> str:
    return f"{line['dataset']}, {memory_of(line)}, {line['tasks_of']} new classes a task, seed {line['seed']}"


def memory_of(line: Line) -> str:
    """The kind of a memory and its options."""
    return " ".join([line["kind"], *(f"{name}={value}" for name, value in sorted(line["options"].items()))])


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
