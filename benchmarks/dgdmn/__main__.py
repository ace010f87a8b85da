"""The experiments of the dual memory's paper: python -m dgdmn, or make bench-dgdmn.

    accuracy      each sequence of tasks by each method: accuracy on every task after every task, and training time
    revision      Permnist, then its tasks 1 and 6 once more
    robustness    noise and occlusion, with and without reconstruction

What is measured is appended to --out at once, one line a run, and is not measured again; pictures go into the folder
--figures. --images scales everything, the capacity of long-term memory with it; --full takes the paper's sizes. With
--nap DGDMN sleeps after as many tasks as are said; the paper has 2, and 5 for tdigits.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from harness import lines
from harness.data import MissingData
from harness.lines import Line
from harness.schooling import Book, footnote
from memory_client.figures import draw

from dgdmn import baselines, figures, generative, report
from dgdmn.baselines import Method
from dgdmn.course import follow
from dgdmn.robustness import LEVELS, robustness
from dgdmn.settings import DGDMN, DGR, EWC, JOINT, SETTINGS, Setting
from dgdmn.tasks import Task, load

METHODS: dict[str, Callable[[Setting, list[Task]], Method]] = {
    "NN": lambda setting, tasks: baselines.Plain(setting, _pixels(tasks)),
    "DropNN": lambda setting, tasks: baselines.Plain(setting, _pixels(tasks), dropout=baselines.DROPOUT),
    "PPR": lambda setting, tasks: baselines.Rehearsal(setting, _pixels(tasks)),
    EWC: lambda setting, tasks: baselines.Elastic(setting, _pixels(tasks)),
    JOINT: lambda setting, tasks: baselines.Joint(setting, _pixels(tasks)),
    DGDMN: generative.Dual,
    DGR: generative.LongTerm,
}
ACCURACY, REVISION, ROBUSTNESS = EXPERIMENTS = ("accuracy", "revision", "robustness")
REVISED, AGAIN = "permnist", (0, 5)


@dataclass(frozen=True)
class Experiments:
    """What was asked for.

    Arguments:
        wish: the command line.
        book: of what was measured.
    """

    wish: argparse.Namespace
    book: Book

    def images(self, sequence: str) -> int:
        """Training images of each task."""
        setting = SETTINGS[sequence]
        return int(self.wish.images or (setting.full if self.wish.full else setting.reduced))

    def setting(self, sequence: str) -> Setting:
        """What was chosen about it."""
        setting = SETTINGS[sequence]
        return replace(setting, nap=self.wish.nap) if self.wish.nap else setting

    def courses(self, experiment: str, sequence: str, methods: Sequence[str]) -> dict[str, Line]:
        """What there is of some methods."""
        found = {method: self.course(experiment, sequence, method) for method in methods}
        return {method: line for method, line in found.items() if line}

    def course(self, experiment: str, sequence: str, method: str) -> Line | None:
        """One method through one sequence of tasks; None if it was not measured and is not to be."""

        def measure() -> Line:
            tasks = self._tasks(sequence)
            learner = METHODS[method](self.setting(sequence), tasks)
            again = [tasks[index] for index in AGAIN] if experiment == REVISION else []
            return follow(learner, [*tasks, *again], f"{sequence}, {method}")

        chosen = (f"n_STM = {self.wish.nap}",) if method == DGDMN and self.wish.nap else ()
        return self._once(experiment, sequence, method, measure, *chosen)

    def robustness(self) -> Line | None:
        """Noise and occlusion; None as for a course."""
        levels = {how: list(each) for how, each in LEVELS.items()}
        return self._once(
            ROBUSTNESS,
            "digits",
            "",
            lambda: robustness(SETTINGS["digits"], self._tasks("digits")) | {"levels": levels},
        )

    def _once(
        self, experiment: str, sequence: str, method: str, measure: Callable[[], Line], *chosen: str
    ) -> Line | None:
        images = self.images(sequence)

        def seeded() -> Line:
            torch.manual_seed(self.wish.seed)
            about = {"experiment": experiment, "sequence": sequence, "method": method, "images": images}
            return measure() | about | {"command": command()}

        key = (experiment, sequence, method, str(images), *chosen)
        return self.book.known(key) if self.wish.table else self.book.once(key, seeded)

    def _tasks(self, sequence: str) -> list[Task]:
        return load(sequence, self.images(sequence), self.wish.seed)


def main() -> int:
    """Measures what is not measured yet, prints the tables and draws the figures."""
    wish = arguments()
    torch.set_num_threads(1)  # seconds of the processor are those of one core
    asked = Experiments(wish, Book(wish.out, "dgdmn", {"seed": wish.seed}))
    try:
        sequences = wish.sequences if ACCURACY in wish.only else ()
        found = {sequence: asked.courses(ACCURACY, sequence, wish.methods) for sequence in sequences}
        courses = {sequence: of_methods for sequence, of_methods in found.items() if of_methods}
        methods = [method for method in (EWC, DGDMN) if REVISION in wish.only and method in wish.methods]
        revisions = asked.courses(REVISION, REVISED, methods)
        spoilt = asked.robustness() if ROBUSTNESS in wish.only else None
    except MissingData as error:
        print(f"dgdmn: {error}", file=sys.stderr)
        return 2
    print(report.markdown(courses, revisions, spoilt))
    measured = [*(line for each in courses.values() for line in each.values()), *revisions.values()]
    measured += [spoilt] if spoilt else []
    print("\n".join(dict.fromkeys(map(footnote, measured))))
    _draw(wish.figures, courses, revisions, spoilt)
    return 0


def _draw(folder: Path, courses: report.Courses, revisions: dict[str, Line], spoilt: Line | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for sequence, of_methods in courses.items():
        draw(lambda lines=of_methods: figures.per_task(lines), folder / f"dgdmn-{sequence}.png")
    if courses:
        draw(lambda: figures.averaged(courses), folder / "dgdmn-average.png")
    if "tdigits" in courses:
        draw(lambda: figures.long_run(courses["tdigits"]), folder / "dgdmn-long.png")
    if revisions:
        draw(lambda: figures.per_task(revisions), folder / "dgdmn-revision.png")
    if spoilt:
        draw(lambda: figures.spoilt(spoilt), folder / "dgdmn-robustness.png")


def command() -> str:
    """How to do it again."""
    given = shlex.join(lines.deciding(sys.argv[1:]))
    return f"make bench-dgdmn ARGS={shlex.quote(given)}" if given else "make bench-dgdmn"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="dgdmn", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", default=list(EXPERIMENTS), choices=EXPERIMENTS, metavar="EXPERIMENT")
    add("--sequences", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), metavar="TASKS", help="of accuracy")
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--images", type=int, help="training images of each task, at the most")
    size.add_argument("--full", action="store_true", help="the paper's sizes: hours")
    add("--nap", type=_tasks, metavar="TASKS", help="n_STM: what DGDMN holds in short-term memory until it sleeps")
    add("--seed", type=int, default=0)
    add("--table", action="store_true", help="measure nothing: show what --out holds of it")
    add("--out", type=Path, default=Path("memory-data/bench-dgdmn.jsonl"), help="lines of results, added to")
    add("--figures", type=Path, default=Path("memory-data/bench-dgdmn"), help="folder of the pictures")
    return parser.parse_args()


def _tasks(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"at least 1 task, not {text!r}")
    return int(text)


def _pixels(tasks: list[Task]) -> int:
    return tasks[0].train.x[0].numel()


if __name__ == "__main__":
    sys.exit(main())
