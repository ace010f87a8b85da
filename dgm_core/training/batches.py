"""Batches from data that lives on the device: no loader, no copy, no host synchronisation."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dgm_core.memory import TaskData


def to_range(x: Tensor) -> Float[Tensor, "batch *shape"]:
    """uint8 images to [-1, 1]; vectors stay as they are."""
    return x.float().div(127.5).sub(1) if x.dtype == torch.uint8 else x


@runtime_checkable
class Batches(Protocol):
    """Where a training draws its examples from.

    Attributes:
        x: all examples in their stored dtype, on the device.
        classes: how many there are.
    """

    x: Tensor
    classes: int

    def draw(self, n: int) -> tuple[Float[Tensor, "n *shape"], Int[Tensor, " n"]]:
        """n examples in the network's range, and their classes."""
        ...


class EvenBatches:
    """Draws examples with replacement, every example equally often: a class as often as the data has it.

    Arguments:
        x: uint8 (n, C, H, W) or float32 (n, F), on the device.
        y: class indices.
        classes: how many there are.
    """

    def __init__(self, x: Tensor, y: Int[Tensor, " n"], classes: int) -> None:
        self.x, self.y, self.classes = x, y, classes

    def draw(self, n: int) -> tuple[Float[Tensor, "n *shape"], Int[Tensor, " n"]]:
        """n examples in the network's range, and their classes."""
        rows = torch.randint(len(self.y), (n,), device=self.y.device)
        return to_range(self.x[rows]), self.y[rows]


class BalancedBatches:
    """Draws examples with replacement, every class that occurs equally often.

    Arguments:
        x: uint8 (n, C, H, W) or float32 (n, F), on the device.
        y: class indices.
        classes: how many there are.
    """

    def __init__(self, x: Tensor, y: Int[Tensor, " n"], classes: int) -> None:
        self.x, self.classes = x, classes
        self.order = torch.argsort(y, stable=True)
        self.counts = torch.bincount(y, minlength=classes)
        self.starts = self.counts.cumsum(0) - self.counts
        self.occurring = self.counts.nonzero().squeeze(1)

    def draw(self, n: int) -> tuple[Float[Tensor, "n *shape"], Int[Tensor, " n"]]:
        """n examples in the network's range, and their classes."""
        device = self.counts.device
        c = self.occurring[torch.randint(len(self.occurring), (n,), device=device)]
        within = (torch.rand(n, device=device, dtype=torch.float64) * self.counts[c]).long()
        return to_range(self.x[self.order[self.starts[c] + within]]), c


class MixedBatches:
    """Draws a share of every batch from one source and the rest from another.

    Arguments:
        first, second: of examples of the same shape, with indices into the same classes.
        share: of the first, in [0, 1]; what is no whole number of examples comes out right over many batches.
    """

    def __init__(self, first: BalancedBatches, second: BalancedBatches, share: float) -> None:
        self.first, self.second, self.share = first, second, share

    def draw(self, n: int) -> tuple[Float[Tensor, "n *shape"], Int[Tensor, " n"]]:
        """n examples in the network's range, and their classes."""
        size = int(n * self.share + float(torch.rand(())))
        (x, c), (x_second, c_second) = self.first.draw(size), self.second.draw(n - size)
        return torch.cat([x, x_second]), torch.cat([c, c_second])


def split(data: TaskData, held_out: float, generator: torch.Generator) -> tuple[TaskData, TaskData]:
    """Two disjoint parts, the second with a share `held_out` of every class, at least one example of each."""
    shuffled = torch.randperm(len(data), generator=generator)
    order = shuffled[torch.argsort(data.y.cpu()[shuffled], stable=True)]
    test = torch.cat([part[: max(1, round(held_out * len(part)))] for part in _by_class(order, data)])
    train = torch.cat([part[max(1, round(held_out * len(part))) :] for part in _by_class(order, data)])
    return _take(data, train), _take(data, test)


def standardisation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per feature of vectors; constants get a deviation of 1."""
    deviation, mean = torch.std_mean(x, dim=0, correction=0)
    return mean, torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))


def _by_class(order: Tensor, data: TaskData) -> list[Tensor]:
    counts = torch.bincount(data.y.cpu(), minlength=len(data.classes)).tolist()
    return list(torch.split(order, counts))


def _take(data: TaskData, rows: Tensor) -> TaskData:
    rows = rows.to(data.x.device)
    return TaskData(data.x[rows], data.y[rows], data.classes)
