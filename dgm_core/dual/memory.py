"""A deep generative memory: a generator, a learner, and a dictionary of the tasks that they know  [DGDMN sec. 3.1]."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dgm_core.blobs import pack, unpack
from dgm_core.dual.budget import represented
from dgm_core.experts import draw
from dgm_core.generative.model import Maker, Model
from dgm_core.manifest import DataSpec, Label
from dgm_core.memory import Solver, TaskData
from dgm_core.networks.classifiers import Classifier
from dgm_core.solvers import ClassifierSolver, Restricted
from dgm_core.training.states import part, under


@dataclass(frozen=True)
class Held:
    """What a dictionary says of one learned task.

    Arguments:
        known_as: the first task that it repeats, directly or through others; itself, if it repeats none.
        classes: that it taught.
    """

    known_as: str
    classes: tuple[Label, ...]


class DeepGenerativeMemory(Solver):
    """Generator, learner and dictionary.

    What the learner sees was reconstructed by the generator before, in training and in prediction, so that it is robust
    to what the generator leaves out  [DGDMN sec. 5.2].

    Arguments:
        model: the generator.
        learner: has one output for each class of the generator, in their order.
        tasks: the dictionary, by task, in the order in which they were learned.
        spec: of one example.
    """

    def __init__(self, model: Model, learner: Classifier, tasks: Mapping[str, Held], spec: DataSpec) -> None:
        self.model, self.tasks, self.spec = model, tasks, spec
        self.classes = model.classes
        self.learner = ClassifierSolver(spec, learner, self.classes)

    @property
    def times(self) -> Counter[str]:
        """How many times each task was seen, a task that repeats another counted as that one."""
        return Counter(held.known_as for held in self.tasks.values())

    def probabilities(self, x: Tensor) -> Float[Tensor, "batch classes"]:
        """What the learner says of reconstructions of x, uint8 (n, C, H, W) or float32 (n, F)."""
        return self.learner.probabilities(self.model.reconstruct(x))

    def labelled(self, x: Tensor) -> TaskData:
        """Examples with the labels that the learner gives them."""
        return TaskData(x, self.probabilities(x).argmax(dim=1), self.classes)

    def revision(self, data: TaskData) -> TaskData:
        """Further examples of a known task: new ones as it reconstructs them, with the labels that the learner gives.

        Examples of classes that it does not know are left out  [DGDMN sec. 3.2].
        """
        known = tuple(label for label in data.classes if label in self.classes)
        rows = torch.tensor([row for row, label in enumerate(data.classes) if label in known], device=data.y.device)
        x = self.model.reconstruct(data.x[torch.isin(data.y, rows)])
        return TaskData(x, Restricted(self.learner, known).probabilities(x).argmax(dim=1), known)

    def generated(self, n: int, device: torch.device, source: torch.Generator) -> TaskData:
        """n samples of what it has learned, labelled; a class is the more frequent the more often its tasks were seen.

        None is missing that n has room for, if it generates by class.

        Arguments:
            source: of the noise, on the CPU.
        """
        expert = self.model.expert(self.classes).to(device)
        if not self.model.conditional:
            return self.labelled(draw(expert, self.classes[0], n, self.spec, device, source))
        weights = [sum(self._share(held, label) for held in self.tasks.values()) for label in self.classes]
        counts = represented(n, weights, [n] * len(weights))
        pairs = list(zip(self.classes, counts, strict=True))
        x = torch.cat([draw(expert, label, count, self.spec, device, source) for label, count in pairs])
        y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device)
        return TaskData(x, y, self.classes)

    def pack(self) -> bytes:
        """The blob of this memory."""
        learner = {name: tensor.cpu() for name, tensor in self.learner.network.state_dict().items()}
        tasks = [[task, held.known_as, list(held.classes)] for task, held in self.tasks.items()]
        about = {"model": dict(self.model.about()), "tasks": tasks, "hidden": list(self.learner.network.hidden)}
        return pack(under("model", self.model.tensors()) | under("learner", learner), about)

    @classmethod
    def unpack(cls, blob: bytes, maker: Maker, spec: DataSpec) -> "DeepGenerativeMemory":
        """The inverse of `pack`.

        Arguments:
            maker: of such models.
            spec: of one example.
        """
        tensors, about = unpack(blob)
        with torch.random.fork_rng(devices=[]):  # networks draw weights before they are given any
            model = maker.load(part("model", tensors), about["model"])
            learner = Classifier(spec, len(model.classes), about["hidden"])
        learner.load_state_dict(part("learner", tensors))
        tasks = {task: Held(known_as, tuple(classes)) for task, known_as, classes in about["tasks"]}
        return cls(model, learner, tasks, spec)

    @staticmethod
    def _share(held: Held, label: Label) -> float:
        return 1 / len(held.classes) if label in held.classes else 0.0


def drawn(data: TaskData, n: int, source: torch.Generator) -> TaskData:
    """n examples at random, of each class in proportion; none is missing that n has room for.

    Arguments:
        data: at least n, some of every class.
        source: on the CPU.
    """
    counts = torch.bincount(data.y, minlength=len(data.classes)).tolist()
    shuffled = torch.randperm(len(data), generator=source).to(data.y.device)
    wanted = enumerate(represented(n, counts, counts))
    kept = torch.cat([shuffled[data.y[shuffled] == row][:count] for row, count in wanted])
    return TaskData(data.x[kept], data.y[kept], data.classes)


def occurring(data: TaskData) -> TaskData:
    """The same examples, with those classes alone that have any."""
    rows, y = data.y.unique(return_inverse=True)
    return TaskData(data.x, y, tuple(data.classes[row] for row in rows.tolist()))


def joined(parts: Sequence[TaskData]) -> TaskData:
    """The examples of all parts; those classes that have any, in the order in which they occur first."""
    parts = [occurring(data) for data in parts]
    classes = tuple(dict.fromkeys(label for data in parts for label in data.classes))
    rows = [torch.tensor([classes.index(label) for label in data.classes], device=data.y.device) for data in parts]
    y = torch.cat([row[data.y] for row, data in zip(rows, parts, strict=True)])
    return TaskData(torch.cat([data.x for data in parts]), y, classes)
