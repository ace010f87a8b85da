"""Follows one method through a sequence of tasks: what it still knows after each of them, and what that took."""

import sys
import time
from collections.abc import Iterable, Sequence

import torch
from harness.lines import Line

from dgdmn.baselines import Method
from dgdmn.tasks import Task

LAST = 10
Accuracies = list[float]


def follow(method: Method, tasks: Sequence[Task], name: str = "") -> Line:
    """Teaches the tasks in order; a task may come again.

    Arguments:
        name: of the method, to tell how far it is.

    Returns:
        tasks: their names, in order.
        accuracies: after each of them, accuracies in [0, 1] on the tasks known by then, in the order of their first
            time.
        awake: the same as it was before the method slept; None after a task that no sleep followed.
        seconds: of the processor that each of them took, sleep included and tests not.
    """
    known: dict[str, Task] = {}
    line: Line = {"tasks": [task.name for task in tasks], "accuracies": [], "awake": [], "seconds": []}
    for task in tasks:
        known[task.name] = task
        started = time.process_time()
        method.learn(task)
        seconds = time.process_time() - started
        before = tested(method, known.values())
        started = time.process_time()
        slept = method.sleep()
        seconds += time.process_time() - started
        after = tested(method, known.values()) if slept else before
        line["accuracies"].append(after)
        line["awake"].append(before if slept else None)
        line["seconds"].append(round(seconds, 3))
        print(f"{name}: {task.name}, {seconds:.1f} s, {mean(after):.3f} on average", file=sys.stderr, flush=True)
    return line


def tested(method: Method, tasks: Iterable[Task]) -> Accuracies:
    """Accuracy on the test images of each task, whose name the method is told."""
    return [accuracy(method.labels(task.name, task.test.x), task.test.y) for task in tasks]


def accuracy(found: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right labels."""
    return round(float((found == labels).float().mean()), 5)


def averages(line: Line) -> Accuracies:
    """Mean accuracy over all tasks known after each  [DGDMN fig. 5, 7a]."""
    return [mean(each) for each in line["accuracies"]]


def of_the_last(line: Line) -> Accuracies:
    """Mean accuracy over the ten newest tasks after each  [DGDMN fig. 7b]."""
    return [mean(each[-LAST:]) for each in line["accuracies"]]


def steady(line: Line) -> Accuracies:
    """The same from where there are ten. It falls with every sleep and rises again, so that its end is no measure."""
    curve = of_the_last(line)
    return curve[min(LAST, len(curve)) - 1 :]


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)
