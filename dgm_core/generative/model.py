"""What a generator of several tasks is to the kinds that retrain one, whatever trains it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from dgm_core.checkpoints import Checkpoints
from dgm_core.experts import FrozenExpert
from dgm_core.manifest import Label
from dgm_core.memory import TaskData
from dgm_core.training.clock import Clock
from dgm_core.training.running import Trained


class Model(ABC):
    """A fitted generator.

    Attributes:
        classes: what it generates.
        conditional: whether samples are of the class that was asked for; otherwise who looks at them has to label them.
    """

    classes: tuple[Label, ...]
    conditional: bool = True

    @abstractmethod
    def expert(self, classes: tuple[Label, ...]) -> FrozenExpert:
        """What generates some of its classes, in that order, on the CPU: a view of the whole, frozen and compiled."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """x as this model would have made it, without being told its classes: same shape, dtype and device.

        x is uint8 (n, C, H, W) or float32 (n, F).
        A model that cannot infer what an example is made from gives x itself.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that it consists of, on the CPU."""

    @abstractmethod
    def about(self) -> Mapping[str, Any]:
        """What else is needed to make it again from its tensors, in JSON's types; has the classes."""


class Maker(Protocol):
    """Makes models of one sort for one memory: it knows the data's shape, the networks and the recipe."""

    def fit(
        self,
        data: TaskData,
        start: Model | None,
        steps: int,
        clock: Clock,
        device: torch.device,
        checkpoints: Checkpoints,
    ) -> tuple[Model, Trained]:
        """A model of all classes of `start` and of `data`, in this order, from `steps` training steps on the data.

        Arguments:
            data: on `device`, real and replayed examples together.
            start: the model to start from; None: from nothing. A class of its that the data does not show may get lost,
                unless this maker says that it holds them.

        Raises:
            TrainingDiverged: a loss became NaN or infinite.
            Cancelled: as raised by the clock's reports, or by `checkpoints`.
        """
        ...

    def load(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Model:
        """The model that these are of; the inverse of `Model.tensors` and `Model.about`."""
        ...
