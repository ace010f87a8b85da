"""What every kind does around the training of its generator: measure what its samples are worth, train the task solver.

Both classifiers see every class that the memory holds, so that their cost grows with the number of classes; the
generator's does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dgm_core.errors import QualityTooLow
from dgm_core.evaluation.reverse import reverse_accuracy
from dgm_core.manifest import DataSpec, ExpertEntry, Label
from dgm_core.memory import TaskData
from dgm_core.replay import Load, replay_pools
from dgm_core.solvers import ClassifierSolver
from dgm_core.training.classifying import Pool, train_classifier
from dgm_core.training.clock import Clock

FEWEST_STEPS = 20


@dataclass(frozen=True)
class Lesson:
    """Classifiers over one head, trained on replay and, where there is some, on real data.

    Arguments:
        spec: of one example.
        heads: all classes of the memory, in the order of the head.
        load: materialises an expert.
        steps: training steps of a classifier; fewer if the clock says so, but at least `FEWEST_STEPS`.
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

    def quality(self, experts: Sequence[ExpertEntry], held_out: TaskData, least: float | None) -> float:
        """Reverse accuracy in [0, 1] on held-out real examples of a classifier that saw samples of `experts` alone.

        Raises:
            QualityTooLow: it is below `least`.
        """
        go_on = self._go_on("quality")
        pools = self.replayed(experts)
        quality = reverse_accuracy(self.spec, len(self.heads), pools, self.pool(held_out), self.steps, go_on)
        if least is not None and quality < least:
            raise QualityTooLow(
                f"the task reached a reverse accuracy of {quality:.3f}, below the required {least:.3f}; "
                "give it more steps or seconds, more examples, or lower min_quality"
            )
        return quality

    def solver(self, experts: Sequence[ExpertEntry], real: TaskData | None = None) -> ClassifierSolver:
        """The task solver: trained on samples of `experts` and on the real data of a task that is being learned."""
        return self.solver_on([*([] if real is None else [self.pool(real)]), *self.replayed(experts)])

    def solver_on(self, pools: Sequence[Pool], share: float | None = None) -> ClassifierSolver:
        """A task solver trained on some examples; `share`, if it is given, of each batch is from the first pool."""
        network = train_classifier(self.spec, len(self.heads), pools, self.steps, self._go_on("solver"), share)
        self.clock.tick("solver", self.steps, self.steps)
        return ClassifierSolver(self.spec, network.cpu(), self.heads)

    def replayed(self, experts: Sequence[ExpertEntry]) -> list[Pool]:
        """Samples of experts, labelled by their conditions."""
        source = torch.Generator().manual_seed(self.seed)
        return replay_pools(experts, self.load, self.heads, self.replay, self.spec, self.device, source)

    def pool(self, data: TaskData) -> Pool:
        """Real examples, labelled by the head."""
        heads = torch.tensor([self.heads.index(label) for label in data.classes], device=data.y.device)
        return Pool(data.x, heads[data.y])

    def _go_on(self, phase: str) -> Callable[[int], bool]:
        def go_on(step: int) -> bool:
            self.clock.tick(phase, step, self.steps)
            return step < FEWEST_STEPS or not self.clock.over(phase)

        return go_on
