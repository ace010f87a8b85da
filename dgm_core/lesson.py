"""What every kind does around the training of its generator: train the task solver, and measure it.

The solver sees samples of every class that the memory holds and no real example, so that what it is worth on held-out
real ones, the reverse accuracy, predicts what replay is worth to a learner. A new task is judged beside all that came
before it, of which no real example is needed. Nor would real examples of the new task help: where samples look unlike
them, a solver that sees both tells new from old by that and takes everything real for the new task.

The cost grows with the number of classes; the generator's does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dgm_core.errors import QualityTooLow
from dgm_core.manifest import DataSpec, ExpertEntry, Label
from dgm_core.memory import TaskData
from dgm_core.replay import Load, replay_pools
from dgm_core.solvers import ClassifierSolver
from dgm_core.training.classifying import Pool, accuracy, train_classifier
from dgm_core.training.clock import Clock


@dataclass(frozen=True)
class Lesson:
    """Classifiers over one head.

    Arguments:
        spec: of one example.
        heads: all classes of the memory, in the order of the head.
        load: materialises an expert.
        steps: training steps of a classifier; where the clock is short the same schedule is walked through in fewer,
            but at least `clock.FEWEST_STEPS`.
        replay: samples per class.
        seed: of the replay.
        clock: limits and reports.
        device: where to train.
    """

    spec: DataSpec
    heads: tuple[Label, ...]
    load: Load
    steps: int
    replay: int
    seed: int
    clock: Clock
    device: torch.device

    def solver(self, experts: Sequence[ExpertEntry], phase: str = "solver") -> ClassifierSolver:
        """A classifier that sees samples of `experts` alone, which are of all classes.

        Arguments:
            phase: of the clock; "quality" where it is to judge samples and no more.
        """
        return self.solver_on(self.replayed(experts), phase=phase)

    def solver_on(self, pools: Sequence[Pool], share: float | None = None, phase: str = "solver") -> ClassifierSolver:
        """A task solver trained on some examples; `share`, if it is given, of each batch is from the first pool."""
        steps = self.steps if len(self.heads) > 1 else 1  # there is no telling one class from itself
        network = train_classifier(self.spec, len(self.heads), pools, steps, self.clock.pace(phase, self.steps), share)
        self.clock.tick(phase, self.steps, self.steps)
        return ClassifierSolver(self.spec, network, self.heads)

    def quality(self, judge: ClassifierSolver, held_out: TaskData, least: float | None) -> float:
        """Reverse accuracy in [0, 1]: of a classifier that saw samples alone, on held-out real examples of a new task.

        A first task of a single class has nothing to be told apart from, and scores 1.

        Raises:
            QualityTooLow: it is below `least`.
        """
        quality = accuracy(judge.network.to(self.device), self.pool(held_out))
        if least is not None and quality < least:
            raise QualityTooLow(
                f"the task reached a reverse accuracy of {quality:.3f}, below the required {least:.3f}; "
                "give it more steps or seconds, more examples, or lower min_quality"
            )
        return quality

    def replayed(self, experts: Sequence[ExpertEntry]) -> list[Pool]:
        """Samples of experts, labelled by their conditions."""
        source = torch.Generator().manual_seed(self.seed)
        return replay_pools(experts, self.load, self.heads, self.replay, self.spec, self.device, source)

    def pool(self, data: TaskData) -> Pool:
        """Real examples, labelled by the head."""
        heads = torch.tensor([self.heads.index(label) for label in data.classes], device=data.y.device)
        return Pool(data.x, heads[data.y])
