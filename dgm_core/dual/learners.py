"""The learner of a deep generative memory: a classifier of what the memory's generator reconstructs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from dgm_core.manifest import DataSpec
from dgm_core.networks.classifiers import Classifier
from dgm_core.training.batches import EvenBatches
from dgm_core.training.classifying import BATCH, Pace, Pool, positions, train_classifier

LEAST_STEPS = 300
"""Of the published training, whose epochs are those of thousands of examples."""


@dataclass(frozen=True)
class LearnerRecipe:
    """How a learner is trained.

    Arguments:
        steps: for so many examples, on batches of 128.
        hidden: widths of its layers, which are then trained as published: RMSProp, every example counts alike
            [DGDMN app. B]; none: as the solver of a memory is.
    """

    steps: Callable[[int], int]
    hidden: tuple[int, ...] = ()

    def train(
        self, spec: DataSpec, classes: int, seen: Pool, pace: Pace, known: Classifier | None = None
    ) -> Classifier:
        """A learner of reconstructed examples.

        Arguments:
            spec: of one example.
            classes: length of its head.
            pace: where training stands, asked before every step: at least as far as steps were taken.
            known: the learner before, of the first so many of these classes; it is left as it is. The published
                training, whose epochs are so few because it is sequential, goes on from it.
        """
        steps = self.steps(len(seen.y)) if classes > 1 else 1  # there is no telling one class from itself
        if not self.hidden:
            return train_classifier(spec, classes, [seen], steps, pace)
        network = Classifier(spec, classes, self.hidden)
        if known is not None:
            _taken_over(network, known)
        network.to(seen.x.device)
        optimiser = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.9, eps=1e-8)
        batches = EvenBatches(seen.x, seen.y, classes)
        for _ in positions(steps, pace):
            x, y = batches.draw(BATCH)
            loss = F.cross_entropy(network(x), y)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return network.eval()


@torch.no_grad()
def _taken_over(network: Classifier, known: Classifier) -> None:
    """Puts what a network has learned into one whose head may have further rows."""
    for parameter, before in zip(network.parameters(), known.parameters(), strict=True):
        parameter[: len(before)] = before


def published(*hidden: int) -> LearnerRecipe:
    """Six epochs, as it is when tasks come one after the other, but of small tasks more  [DGDMN app. B]."""
    return LearnerRecipe(lambda examples: max(LEAST_STEPS, 6 * math.ceil(examples / BATCH)), hidden)
