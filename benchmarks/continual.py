"""Class-incremental learning through the real server and client: what a memory is worth to a learner who kept nothing.

    GENERATIVE_MEMORY_DATA=DIR python benchmarks/continual.py --dataset mnist --kind dgmw --seed 0 --state FOLDER

Teaches ten classes in tasks of one or two. After the tasks with five and with ten classes, fresh classifiers of one
design are trained on samples of the memory alone, on real data of all classes so far (joint), and on real data of the
newest task only. All are tested on the real test images of all classes so far; nothing is chosen by them. The memory
gives the newest class too: real examples beside samples of the others would be told apart by who made them.

Each class is measured after its own task and again after the last one (with --every-task after every one), from the
same seeded samples. If a figure of an old class has moved, or a byte of its samples, though the kind of the memory
promises that none does, the status is 1.

The run is in --state with the server's data: the same command continues a run that was killed. With
--stop-after-seconds it stops by itself between two pieces of work, with status 3, and all is done by

    until COMMAND; do [ $? = 3 ] || break; done
"""

import argparse
import dataclasses
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from harness import data, lines, machine, tables
from harness.classifier import SETTINGS, Setting
from harness.folder import NotThisRun, OutOfTime, RunFolder
from harness.judge import Judge
from harness.learning import slept, teach
from harness.measures import ClassMeasures, moved
from harness.space import network_of
from harness.tables import JOINT, MEMORY, NEWEST_ONLY, REDUCED, WITH_NEWEST
from memory_client import Memory
from memory_client.errors import MemoryServiceError
from rich.console import Console

from dgm_core.evaluation.features import FeatureNetwork
from dgm_core.memories import kind_of
from memory_server.demo.datasets import Dataset, tasks_of
from memory_server.demo.run import server

NAME = "continual"
FEATURE_STEPS = {"digits": 100, "mnist": 400, "cifar10": 3000}
HALF = 5
DECIDING = ("dataset", "kind", "tasks_of", "seed", "seconds", "steps", "options", "images")
DECIDING += ("classifier", "classifier_steps", "feature_steps")
REPLAYED = (MEMORY, REDUCED, WITH_NEWEST)
WRONG, REFUSED, UNFINISHED = 1, 2, 3


def main() -> int:
    """Runs or continues one run, or prints the tables of what was run."""
    wish = arguments()
    if wish.table:
        print(tables.markdown(lines.read(wish.out)), end="")
        return 0
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the server is stopped, too
    try:
        machine.set_up(wish.device, wish.threads)
        examples = data.load(wish.dataset, wish.seed, wish.images)
        deciding = {name: getattr(wish, name) for name in DECIDING}
        with (
            RunFolder(wish.state, deciding, wish.stop_after_seconds) as folder,
            server(wish.state, console) as target,
        ):
            memory = Memory(target, name=NAME, kind=wish.kind, options={"seed": wish.seed, **wish.options})
            return Run(wish, examples, folder, memory, console).whole()
    except OutOfTime as stopped:
        console.print(str(stopped), markup=False)
        return UNFINISHED
    except (data.MissingData, NotThisRun, MemoryServiceError, RuntimeError) as error:
        console.print(f"continual.py: {error}", markup=False)
        return REFUSED


class Run:
    """One run, piece by piece; a piece that is in the folder already is not done again.

    Arguments:
        wish: the command line.
        examples: all data; a memory is only ever shown one task of it.
        folder: what has been done.
        memory: what learns.
        console: for what a person wants to see meanwhile.
    """

    def __init__(
        self, wish: argparse.Namespace, examples: Dataset, folder: RunFolder, memory: Memory, console: Console
    ) -> None:
        self.wish, self.examples, self.folder, self.memory, self.console = wish, examples, folder, memory, console
        self.tasks = tasks_of(per_task=wish.tasks_of)[: wish.tasks]
        self.device = machine.device(wish.device)
        self.judge = Judge(memory, examples, _setting(wish), wish.seed, self.device)
        self.measures = self._class_measures()

    def whole(self) -> int:
        """All tasks and everything that is measured; the exit status."""
        self.folder.once("features", self._make_features)
        changed: list[str] = []
        for index in range(len(self.tasks)):
            self._learn(index)
            self._measure(index)
            if self.wish.every_task or index == len(self.tasks) - 1:
                changed += self._over_time(index)
            if self._evaluated(index):
                self._evaluate(index)
        print(tables.markdown([line for line in lines.read(self.wish.out) if line["run"] == self.folder.run]), end="")
        return self._judged(changed)

    def _judged(self, changed: list[str]) -> int:
        """Says what has moved; whether that is wrong, the kind's promise decides."""
        promised = kind_of(self.wish.kind).exact
        if not changed:
            self.console.print("[green]held[/green] no figure of any class and no byte of its samples has moved")
        elif promised:
            for what in changed:
                self.console.print(f"[red]FAILED[/red] {what}")
        else:
            self.console.print(f"{self.wish.kind} retrains what it holds: {len(changed)} figures of classes have moved")
        return WRONG if changed and promised else 0

    # Learning

    def _learn(self, index: int) -> None:
        classes = self.tasks[index]
        real = self.examples.train.of(classes)
        learned = self.folder.once(
            f"learn/t{index}",
            partial(teach, self.memory, real, f"t{index}", self.wish.steps, self.wish.seconds),
        )
        self._line("learning", index, new_classes=list(classes), examples=len(real.x), **learned)
        if sleep := self.folder.once(f"sleep/t{index}", partial(slept, self.memory)):
            self._line("sleep", index, **sleep)

    # What samples are worth to a learner

    def _evaluated(self, index: int) -> bool:
        return self.wish.evaluate_all or index == len(self.tasks) - 1 or len(self._seen(index)) == HALF

    def _evaluate(self, index: int) -> None:
        for row in self.wish.rows + ([WITH_NEWEST] if self.wish.newest_real and index else []):
            measured = self.folder.once(f"classify/t{index}/{row}", partial(self._classify, index, row))
            self._line("accuracy", index, **measured)

    def _classify(self, index: int, row: str) -> dict[str, Any]:
        seen, newest = self._seen(index), self.tasks[index]
        about = self.judge.about(row, seen, newest)
        examples = {name: getattr(self.wish, name) for name in ("dataset", "seed", "images")}
        known = None if row in REPLAYED else lines.with_all(self.wish.out, about | examples)
        if known is not None:  # measured in another run: it would come out the same again
            return about | {name: known[name] for name in ("accuracy", "classify_seconds")} | {"from_run": known["run"]}
        started = time.monotonic()
        accuracy = self.judge.accuracy(row, seen, newest)
        return about | {"accuracy": accuracy, "classify_seconds": round(time.monotonic() - started, 1)}

    # Classes over time

    def _measure(self, index: int) -> None:
        for label in self.tasks[index]:
            self.folder.once(f"measure/{label}", partial(self.measures.of, label, self._seen(index)))

    def _over_time(self, last: int) -> list[str]:
        """Measures every class so far once more; what has moved since its own task."""
        changed = []
        everything = self._seen(last)
        about = {"after": len(everything), "exact": kind_of(self.wish.kind).exact}
        anew = self._class_measures()  # which draws every sample again
        for index, label in ((task, label) for task in range(last + 1) for label in self.tasks[task]):
            then = self.folder.result(f"measure/{label}")
            key = f"measure-again/{len(everything)}/{label}"
            now = self.folder.once(key, partial(_again, anew, label, self._seen(index), everything))
            same, others = now["same"], {name: value for name, value in now.items() if name != "same"}
            self._line("class", index, label=label, then=then, now=same, **others, **about)
            changed += [f"class {label} after {len(everything)} classes: {what}" for what in moved(then, same)]
        return changed

    def _class_measures(self) -> ClassMeasures:
        return ClassMeasures(self.memory, self._features, self.examples.test, self.wish.measured)

    def _make_features(self) -> None:
        """Trains the feature network, unless runs that share it have."""
        self._features()

    def _features(self) -> FeatureNetwork:
        steps = self.wish.feature_steps or FEATURE_STEPS[self.wish.dataset]
        name = f"features-{self.wish.dataset}-{self.wish.seed}-{self.wish.images}-{steps}.safetensors"
        return network_of(self.examples.train, steps, (self.wish.features or self.folder.path) / name, self.device)

    # Shared by all

    def _seen(self, index: int) -> tuple[int, ...]:
        return tuple(label for task in self.tasks[: index + 1] for label in task)

    def _line(self, what: str, index: int, **fields: Any) -> None:
        """Appends one line to --out, once."""
        which = [f"t{index}", fields.get("row", fields.get("label", "")), fields.get("after", "")]
        key = "/".join(map(str, ["line", what, *which]))
        line = {
            "run": self.folder.run, "what": what, "key": which, "task": f"t{index}",
            **{name: getattr(self.wish, name) for name in DECIDING}, **lines.origin(self.device), **fields,
        }  # fmt: skip
        self.folder.once(key, partial(lines.append, self.wish.out, line), quick=True)


def _again(measures: ClassMeasures, label: int, known: tuple[int, ...], everything: tuple[int, ...]) -> dict[str, Any]:
    return {
        "same": measures.of(label, known),
        "among_all": measures.reverse_accuracy(label, everything),
        "solver": measures.answered(label),
    }


def _setting(wish: argparse.Namespace) -> Setting:
    setting = SETTINGS[wish.classifier or wish.dataset]
    return setting if wish.classifier_steps is None else dataclasses.replace(setting, steps=wish.classifier_steps)


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, as in network=residual")
    return name, value


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", choices=data.NAMES, default="mnist")
    add("--kind", default="dgmw", help="of the memory")
    add("--tasks-of", type=int, choices=(1, 2), default=1, help="classes per task")
    add("--tasks", type=int, default=None, help="only the first so many tasks")
    add("--seed", type=int, default=0, help="of the memory and the classifiers, and the split of the digits")
    add("--seconds", type=float, help="for each task to learn; else what the recipe takes")
    add("--steps", type=int, help="of the generator for each task; else what the recipe takes")
    add("--options", type=_option, nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="of the kind")
    add("--images", type=int, help="at most so many of each class to learn from")
    add(
        "--classifier", choices=SETTINGS, help="of the learner; cifar10-small is one for a CPU; else the data set's own"
    )
    add("--classifier-steps", type=int, help="of the learner's classifier; else what suits it")
    add("--feature-steps", type=int, help="of the feature network of the measures; else what suits the data set")
    add("--measured", type=int, default=1000, help="images of a class that are measured over time, at most")
    add("--every-task", action="store_true", help="measure all earlier classes after every task, not only the last")
    add("--features", type=Path, help="folder of feature networks that several runs share; else each has its own")
    add("--evaluate-all", action="store_true", help="train classifiers after every task, not only at 5 and 10 classes")
    plain = [MEMORY, JOINT, NEWEST_ONLY]
    rows = [*plain, REDUCED]
    add("--rows", nargs="+", default=plain, choices=rows, metavar="ROW", help=f"trained on, of {'; '.join(rows)}")
    add("--newest-real", action="store_true", help="one more row: real data of the newest task beside samples")
    add("--device", default="auto", help="cpu, cuda, ...; auto: CUDA if there is any")
    add("--threads", type=int, help="of the server's training and of the classifiers; else all cores but one")
    add("--state", type=Path, help="folder of the run")
    add("--stop-after-seconds", type=float, help="begin nothing after which this command would probably end later")
    add("--out", type=Path, default=Path("results.jsonl"), help="where lines of results are appended")
    add("--table", action="store_true", help="only print the lines of --out as Markdown")
    wish = parser.parse_args()
    if wish.state is None and not wish.table:
        parser.error("--state FOLDER is needed: it holds the run, so that the same command continues it")
    wish.options = dict(wish.options)
    return wish


if __name__ == "__main__":
    sys.exit(main())
