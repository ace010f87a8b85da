"""Deep generative replay and the dual memory in the paper's setting, of the parts that the product's kinds are made of.

    DGR      a long-term memory alone: each task is consolidated directly
    DGDMN    short-term memories of single tasks, and a sleep that moves them to the long-term memory

Generators are variational autoencoders without classes, of two fully connected layers on either side, whose samples the
learner labels. Their widths are not published, nor what is smaller about short-term memories: those here are our own.
"""

from collections import Counter

import torch
from torch import Tensor

from dgdmn.settings import SEQUENTIAL_EPOCHS, Setting
from dgdmn.tasks import Examples, Task
from dgm_core.dual.budget import Budget
from dgm_core.dual.learners import LearnerRecipe
from dgm_core.dual.memory import DeepGenerativeMemory, joined
from dgm_core.dual.replay import News, Replay
from dgm_core.generative.vae import VaeMaker
from dgm_core.manifest import DataSpec
from dgm_core.memory import TaskData
from dgm_core.training.classifying import BATCH
from dgm_core.training.clock import Clock
from dgm_core.training.variational import VAE_PAPER

CPU = torch.device("cpu")
EPOCHS = 25
LONG, SHORT = 32, 16
"""f of the autoencoders' widths: layers of 8f."""
SHARES = {"generator": 0.9, "learner": 0.1}


def replay(setting: Setting, spec: DataSpec, capacity: int, *, short: bool = False) -> Replay:
    """How a memory learns.

    Arguments:
        capacity: N_max.
        short: whether it is a short-term memory: half as wide, and not bounded by κ.
    """
    f, part = (SHORT, 2) if short else (LONG, 1)
    maker = VaeMaker(spec, VAE_PAPER, "dense", width=f, noise=setting.latent // part, conditional=False, encoder=8 * f)
    learner = LearnerRecipe(
        lambda examples: SEQUENTIAL_EPOCHS * max(1, examples // BATCH), (setting.hidden // part,) * 2
    )
    budget = Budget(capacity, 0.0 if short else setting.kappa)
    return Replay(spec, maker, learner, budget, _steps)


class LongTerm:
    """DGR.

    Arguments:
        setting: sizes.
        tasks: all that will come: their number sets N_max, as it does in the paper.
    """

    def __init__(self, setting: Setting, tasks: list[Task]) -> None:
        self.setting = setting
        self.spec = DataSpec(tuple(tasks[0].train.x.shape[1:]), "uint8")
        self.capacity = round(setting.share * sum(len(task.train) for task in tasks))
        self.replay = replay(setting, self.spec, self.capacity)
        self.source = torch.Generator().manual_seed(torch.initial_seed())
        self.long: DeepGenerativeMemory | None = None
        self.times: Counter[str] = Counter()

    def learn(self, task: Task) -> None:
        """Consolidates a task."""
        self.consolidate([self.news(task, data_of(task.train))])

    def sleep(self) -> bool:
        """Never."""
        return False

    def labels(self, task: str, x: Tensor) -> Tensor:
        """What the learner of the task's holder makes of reconstructions."""
        return read(self.holder(task), x)

    def holder(self, task: str) -> DeepGenerativeMemory:  # noqa: ARG002 - there is one
        """The memory that answers for a task."""
        assert self.long is not None
        return self.long

    def news(self, task: Task, data: TaskData) -> News:
        """Examples of a task, under a name of their own for every time that it comes."""
        self.times[task.name] += 1
        return News.of_data(f"{task.name}, {self.times[task.name]}", data, self.source, known_as=task.name)

    def consolidate(self, news: list[News]) -> None:
        """Long-term memory learns, and rehearses what it knows."""
        self.long = self.taught(self.replay, self.long, news)

    def taught(self, how: Replay, memory: DeepGenerativeMemory | None, news: list[News]) -> DeepGenerativeMemory:
        """A memory that knows the news as well."""
        learned, _ = how.learn(memory, news, Clock(lambda _: None, shares=SHARES), CPU, self.source)
        return learned


class Dual(LongTerm):
    """DGDMN."""

    def __init__(self, setting: Setting, tasks: list[Task]) -> None:
        super().__init__(setting, tasks)
        largest = max(len(task.train) for task in tasks)
        self.quick = replay(setting, self.spec, 2 * largest, short=True)
        self.short: dict[str, DeepGenerativeMemory] = {}
        self.examples: Counter[str] = Counter()

    def learn(self, task: Task) -> None:
        """A short-term memory learns it, with what long-term memory makes of it if that knows it  [DGDMN sec. 3.2]."""
        data = data_of(task.train)
        if self.long is not None and task.name in self.long.times:
            data = joined([data, self.long.revision(data)])
        self.short[task.name] = self.taught(self.quick, self.short.get(task.name), [self.news(task, data)])
        self.examples[task.name] += len(task.train)

    def sleep(self) -> bool:
        """Long-term memory learns what short-term memories dream up, once there are n_STM of them, which are let go."""
        if len(self.short) < self.setting.nap:
            return False
        dreams = [News.of_memory(memory, self.examples[task], CPU, self.source) for task, memory in self.short.items()]
        self.consolidate(dreams)
        self.short.clear()
        self.examples.clear()
        return True

    def holder(self, task: str) -> DeepGenerativeMemory:
        """The short-term memory of the task if there is one, otherwise the long-term memory."""
        return self.short.get(task) or super().holder(task)


def data_of(examples: Examples) -> TaskData:
    """Examples as a memory takes them: classes are the labels that occur."""
    labels, y = examples.y.unique(return_inverse=True)
    return TaskData(examples.x, y, tuple(labels.tolist()))


def read(memory: DeepGenerativeMemory, x: Tensor, *, reconstruct: bool = True) -> Tensor:
    """Labels that a memory's learner gives.

    Arguments:
        reconstruct: what the generator leaves out is left out, as always in the paper; otherwise x itself is shown.
    """
    solver = memory if reconstruct else memory.learner
    return torch.tensor(memory.classes)[solver.probabilities(x).argmax(dim=1)]


def _steps(examples: int, classes: int) -> int:  # noqa: ARG001 - so many epochs, whatever they are of
    return EPOCHS * max(1, examples // VAE_PAPER.batch)
