"""`dgr`: deep generative replay (Shin et al. 2017).

A scholar is a generator and a solver. For every task both are retrained on its examples and on what the scholar before
replays: its generator's samples, with the labels that its solver gives them  [DGR sec. 3]. The solver weighs the two:
r·E[loss on the new task] + (1 − r)·E[loss on replay]. Errors of generator and solver are handed on from scholar to
scholar.

As published, the generator is unconditional. Here it is told the labels, the solver's for replay, so that it can be
sampled by class; and it sees every class equally often.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from dgm_core.lesson import Lesson
from dgm_core.manifest import ExpertEntry, Label
from dgm_core.memories.retrained import RetrainedMemory, RetrainedOptions
from dgm_core.memory import TaskData
from dgm_core.solvers import ClassifierSolver
from dgm_core.training.classifying import Pool


@dataclass(frozen=True)
class DgrOptions(RetrainedOptions):
    """Options of deep generative replay.

    Arguments:
        importance: r, the weight of the new task for the solver; 0: its classes over theirs and those known before,
            so that half of what the solver sees is replay where all of them are taught again.
    """

    importance: float = 0.0

    def validate(self) -> None:
        """See `Options.validate`."""
        super().validate()
        self.require_range("importance", 0, 1)


class Dgr(RetrainedMemory):
    """A scholar: what it replays carries the labels of its own solver."""

    kind = "dgr"
    shares = MappingProxyType({"generator": 0.80, "quality": 0.08, "solver": 0.12})
    parsed = DgrOptions
    chosen: DgrOptions

    def replay(self, classes: tuple[Label, ...], device: torch.device, pulse: Callable[[], None]) -> TaskData:
        """See `RetrainedMemory.replay`; labelled by the solver."""
        replay = super().replay(classes, device, pulse)
        return replace(replay, y=self._relabelled(replay.x, replay.y))

    def taught_solver(
        self, lesson: Lesson, experts: Sequence[ExpertEntry], real: TaskData
    ) -> tuple[ClassifierSolver, ClassifierSolver]:
        """See `TaughtMemory.taught_solver`: on r·new + (1 − r)·replay  [DGR sec. 3], so that another one judges."""
        judge = lesson.solver(experts, "quality")
        if self.model is None:
            return lesson.solver_on([lesson.pool(real)]), judge
        drawn = lesson.replayed([each for _, each in self.manifest.experts()])
        x, y = torch.cat([pool.x for pool in drawn]), torch.cat([pool.y for pool in drawn])
        known = len(self.manifest.classes)
        share = self.chosen.importance or len(real.classes) / (len(real.classes) + known)
        return lesson.solver_on([lesson.pool(real), Pool(x, self._relabelled(x, y))], share), judge

    def _relabelled(self, x: Tensor, drawn: Tensor) -> Tensor:
        """The labels that the solver gives samples; a class that it sees nowhere keeps those that were drawn for it."""
        solver = ClassifierSolver.unpack(self.manifest.spec, self.blobs[self.manifest.shared["solver"]])
        y = solver.probabilities(x).argmax(dim=1)
        for label in range(len(solver.classes)):
            if not (y == label).any():
                y = torch.where(drawn == label, label, y)
        return y
