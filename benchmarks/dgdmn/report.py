"""Measured lines as Markdown, and whether the paper's claims hold in them."""

from collections.abc import Iterator, Mapping

from harness.lines import Line
from harness.tables import NONE, table

from dgdmn.course import averages, mean, of_the_last, steady
from dgdmn.robustness import AS_IT_IS, READERS, RECONSTRUCTED
from dgdmn.settings import DGDMN, DGR, JOINT

Courses = Mapping[str, Mapping[str, Line]]
"""By sequence and method."""


def markdown(courses: Courses, revisions: Mapping[str, Line], spoilt: Line | None) -> str:
    """All tables of what was measured."""
    parts = [
        _courses(courses),
        _revisions(revisions),
        _spoilt(spoilt) if spoilt else "",
        _claims(courses, revisions, spoilt),
    ]
    return "\n\n".join(part for part in parts if part)


def _courses(courses: Courses) -> str:
    header = (
        "tasks",
        "images a task",
        "method",
        "all tasks",
        "first task",
        "last ten",
        "last ten, on average",
        "before its last sleep",
        "CPU s",
    )
    rows = [
        [
            sequence,
            str(line["images"]),
            method,
            _percent(averages(line)[-1]),
            _percent(line["accuracies"][-1][0]),
            _percent(of_the_last(line)[-1]),
            _percent(mean(steady(line))),
            _percent(mean(line["awake"][-1])) if line["awake"][-1] else NONE,
            f"{sum(line['seconds']):.0f}",
        ]
        for sequence, lines in courses.items()
        for method, line in lines.items()
    ]
    return table(header, rows)


def _revisions(revisions: Mapping[str, Line]) -> str:
    header = ("method", "revised", "accuracy on it before", "after")
    rows = [
        [method, name, _percent(before), _percent(after)]
        for method, line in revisions.items()
        for name, before, after in revised(line)
    ]
    return table(header, rows)


def revised(line: Line) -> Iterator[tuple[str, float, float]]:
    """Each task that came again, and the accuracy on it before and after that."""
    names = list(dict.fromkeys(line["tasks"]))
    for turn, name in enumerate(line["tasks"]):
        if name in line["tasks"][:turn]:
            before, after = (line["accuracies"][at][names.index(name)] for at in (turn - 1, turn))
            yield name, before, after


def _spoilt(line: Line) -> str:
    tables = []
    for how in ("noise", "occlusion"):
        levels = [f"{level:.2f}" for level in line["levels"][how]]
        rows = [[reader, *map(_percent, line[how][reader])] for reader in READERS]
        tables.append(table((how, *levels), rows))
    return "\n\n".join(tables)


def _claims(courses: Courses, revisions: Mapping[str, Line], spoilt: Line | None) -> str:
    """The paper's claims, as far as there is something to judge them by."""
    rows = [
        [claim, found, "held" if held else "**MISSED**"] for claim, found, held in claims(courses, revisions, spoilt)
    ]
    return table(("claim", "found", ""), rows)


def claims(courses: Courses, revisions: Mapping[str, Line], spoilt: Line | None) -> Iterator[tuple[str, str, bool]]:
    """Each claim, what was found, and whether it holds."""
    for sequence, lines in courses.items():
        last = {method: averages(line)[-1] for method, line in lines.items() if method != JOINT}
        if {DGR, DGDMN} < last.keys():
            worst = min(last.pop(DGR), last.pop(DGDMN))
            best = max(last.values())
            yield f"{sequence}: generative replay is ahead of all others", f"{worst:.3f} over {best:.3f}", worst > best
    if {DGR, DGDMN} <= courses.get("tdigits", {}).keys():
        dual, alone = courses["tdigits"][DGDMN], courses["tdigits"][DGR]
        ratio = averages(dual)[-1] / averages(alone)[-1]
        yield f"tdigits: {DGDMN} at least twice {DGR}", f"{ratio:.2f} times", ratio >= 2
        share = sum(dual["seconds"]) / sum(alone["seconds"])
        yield "at a fifth or less of its training time", f"{share:.2f}", share <= 0.2
        curve = steady(dual)
        found = f"{_percent(mean(curve))}, between {_percent(min(curve))} and {_percent(max(curve))}"
        yield f"{DGDMN}'s last ten tasks at 75 % or more on average", found, mean(curve) >= 0.75
    if DGDMN in revisions:
        name, before, after = next(revised(revisions[DGDMN]))
        yield f"revising {name} raises its accuracy", f"{_percent(before)} to {_percent(after)}", after > before
    for how in ("noise", "occlusion") if spoilt else ():
        means = {reader: mean(accuracies) for reader, accuracies in spoilt[how].items()}
        found = f"{_percent(means[RECONSTRUCTED])} over {_percent(means[AS_IT_IS])} on average"
        yield f"reconstruction helps against {how}", found, means[RECONSTRUCTED] > means[AS_IT_IS]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
