"""Reverse accuracy: train a classifier on samples, test it on real examples that nobody trained on.

It is the measure that predicts what replay is worth to a learner. The classifier sees samples of every class that the
memory holds, so that a task is judged beside all that came before it; no real example of an earlier task is needed.
The very first task of a single class has nothing to be told apart from, and scores 1.
"""

from collections.abc import Callable, Sequence

from dgm_core.manifest import DataSpec
from dgm_core.training.classifying import Pool, accuracy, train_classifier


def reverse_accuracy(
    spec: DataSpec,
    classes: int,
    replay: Sequence[Pool],
    held_out: Pool,
    steps: int,
    go_on: Callable[[int], bool],
) -> float:
    """Accuracy in [0, 1] on real held-out examples of a classifier trained on replay alone.

    Arguments:
        spec: of one example.
        classes: of the whole memory, the new task included.
        replay: samples of every class.
        held_out: real examples of the new task.
        steps: training steps of the classifier.
        go_on: asked before every step, by its number; False ends training early.
    """
    return accuracy(train_classifier(spec, classes, replay, steps, go_on), held_out)
