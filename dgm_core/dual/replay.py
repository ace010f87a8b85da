"""Deep generative replay: how a deep generative memory learns, from data or from its like  [DGDMN sec. 3.1]."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from dgm_core.checkpoints import NONE, Checkpoints
from dgm_core.dual.budget import Budget, Incoming
from dgm_core.dual.learners import LearnerRecipe
from dgm_core.dual.memory import DeepGenerativeMemory, Held, drawn, joined
from dgm_core.generative.model import Maker
from dgm_core.manifest import DataSpec
from dgm_core.memory import TaskData
from dgm_core.training.classifying import Pool
from dgm_core.training.clock import Clock
from dgm_core.training.running import Trained

Steps = Callable[[int, int], int]
"""Training steps of a generator for (examples, classes)."""


@dataclass(frozen=True)
class News:
    """What a memory is to learn.

    Arguments:
        tasks: dictionary of what comes in.
        examples: that there are.
        take: so many of them.
    """

    tasks: Mapping[str, Held]
    examples: int
    take: Callable[[int], TaskData]

    @property
    def incoming(self) -> Incoming:
        """What of it counts for a budget."""
        classes = {label for held in self.tasks.values() for label in held.classes}
        return Incoming(self.examples, len(self.tasks), len(classes))

    @classmethod
    def of_data(cls, task: str, data: TaskData, source: torch.Generator, known_as: str = "") -> "News":
        """Examples of one task.

        Arguments:
            data: has some of every class.
            source: chooses some where not all can be kept; on the CPU.
            known_as: the task that this one repeats, if it does.
        """
        return cls({task: Held(known_as or task, data.classes)}, len(data), lambda n: drawn(data, n, source))

    @classmethod
    def of_memory(
        cls, memory: DeepGenerativeMemory, examples: int, device: torch.device, source: torch.Generator
    ) -> "News":
        """What another memory dreams up.

        Arguments:
            examples: that there were of its tasks.
            source: of the noise, on the CPU.
        """
        return cls(memory.tasks, examples, lambda n: memory.generated(n, device, source))


@dataclass(frozen=True)
class Replay:
    """The procedure, with what is chosen about it.

    Arguments:
        spec: of one example.
        maker: of the generator.
        learner: how the learner is trained.
        budget: how many examples of what.
        steps: of the generator.
    """

    spec: DataSpec
    maker: Maker
    learner: LearnerRecipe
    budget: Budget
    steps: Steps

    def learn(
        self,
        memory: DeepGenerativeMemory | None,
        news: Sequence[News],
        clock: Clock,
        device: torch.device,
        source: torch.Generator,
        checkpoints: Checkpoints = NONE,
    ) -> tuple[DeepGenerativeMemory, Trained]:
        """A memory that knows the news as well; the one before is left as it is.

        The generator is trained on the news and on what the memory before generates, in the shares of the budget; the
        learner on what the new generator makes of the same examples.

        Arguments:
            memory: what there was before; None: nothing.
            clock: has the phases "generator" and "learner".
            source: of the noise, on the CPU.

        Raises:
            TrainingDiverged: a loss became NaN or infinite.
            Cancelled: as raised by the clock's reports, or by `checkpoints`.
        """
        times, classes = ({}, ()) if memory is None else (memory.times, memory.classes)
        allotment = self.budget.allot([each.incoming for each in news], times, len(classes))
        parts = [each.take(n) for each, n in zip(news, allotment.new, strict=True)]
        if memory is not None and allotment.old:
            parts.append(memory.generated(allotment.old, device, source))
        data = joined(parts)
        steps = self.steps(len(data), len(data.classes))
        start = None if memory is None else memory.model
        model, trained = self.maker.fit(data, start, steps, clock, device, checkpoints)
        heads = torch.tensor([model.classes.index(label) for label in data.classes], device=device)
        seen = Pool(model.reconstruct(data.x), heads[data.y])
        wanted = self.learner.steps(len(data))
        known = None if memory is None else memory.learner.network
        learner = self.learner.train(self.spec, len(model.classes), seen, clock.pace("learner", wanted), known)
        tasks = {} if memory is None else dict(memory.tasks)
        for each in news:
            tasks |= each.tasks
        return DeepGenerativeMemory(model, learner.cpu(), tasks, self.spec), trained
