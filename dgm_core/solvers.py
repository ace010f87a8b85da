"""The task solver as a blob: a classifier with a single head over all classes learned so far."""

import torch
from jaxtyping import Float
from torch import Tensor

from dgm_core.blobs import pack, unpack
from dgm_core.manifest import DataSpec, Label
from dgm_core.memory import Solver
from dgm_core.networks.classifiers import Classifier
from dgm_core.training.classifying import logits


class ClassifierSolver(Solver):
    """A trained classifier and what its outputs mean.

    Arguments:
        spec: of one example.
        network: in evaluation mode.
        classes: one per output.
    """

    def __init__(self, spec: DataSpec, network: Classifier, classes: tuple[Label, ...]) -> None:
        self.spec, self.network, self.classes = spec, network.eval(), classes

    def probabilities(self, x: Tensor) -> Float[Tensor, "batch classes"]:
        """Class probabilities of x, uint8 (n, C, H, W) or float32 (n, F), on the device where it lies."""
        return torch.softmax(logits(self.network.to(x.device), x), dim=1)

    def pack(self) -> bytes:
        """The blob of this solver."""
        return pack({k: v.cpu() for k, v in self.network.state_dict().items()}, {"classes": list(self.classes)})

    @classmethod
    def unpack(cls, spec: DataSpec, blob: bytes) -> "ClassifierSolver":
        """The inverse of `pack`."""
        tensors, about = unpack(blob)
        network = Classifier(spec, len(about["classes"]))
        network.load_state_dict(tensors)
        return cls(spec, network, tuple(about["classes"]))


class Restricted(Solver):
    """A solver that is told the task: it chooses among that task's classes alone.

    Arguments:
        solver: knows these classes, and others.
        classes: of the task.
    """

    def __init__(self, solver: Solver, classes: tuple[Label, ...]) -> None:
        self.classes = classes
        self._solver = solver
        self._columns = [solver.classes.index(label) for label in classes]

    def probabilities(self, x: Tensor) -> Float[Tensor, "batch classes"]:
        """See `Solver.probabilities`: given that it is one of these classes."""
        chosen = self._solver.probabilities(x)[:, self._columns]
        # Where the solver is sure of a class of another task, all of them may have been rounded to 0.
        possible = chosen.clamp_min(torch.finfo(chosen.dtype).tiny)
        return possible / possible.sum(dim=1, keepdim=True)
