"""The paper's baselines without a generator: a small network of three layers, and what is done against forgetting.

NN       nothing
DropNN   dropout after both hidden layers
PPR      pseudopattern rehearsal: random inputs, labelled by the network before it learns on
EWC      elastic weight consolidation: weights are held where the Fisher information says that they matter
joint    a fresh network on all tasks so far, which keeps all data: for reference
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from dgdmn.settings import DROPOUT, FISHER_WEIGHT, JOINT_EPOCHS, REHEARSED, SEQUENTIAL_EPOCHS, Setting
from dgdmn.tasks import Task

BATCH = 128
AT_ONCE = 1000

Penalty = Callable[[nn.Module], Tensor]


class Method(Protocol):
    """A way to learn tasks one after the other."""

    def learn(self, task: Task) -> None:
        """Learns one more task, or one that it knows again."""
        ...

    def sleep(self) -> bool:
        """Moves what it holds for a short time to where it stays, if it is time; whether it was."""
        ...

    def labels(self, task: str, x: Tensor) -> Tensor:
        """What it takes the images of a task to be: int64 (n,) for uint8 (n, 1, 28, 28)."""
        ...


class Plain:
    """NN: a network that is trained on each task alone.

    Arguments:
        setting: widths and labels.
        pixels: of an image.
        dropout: rate after both hidden layers.
    """

    def __init__(self, setting: Setting, pixels: int, dropout: float = 0.0) -> None:
        self.setting, self.pixels, self.dropout = setting, pixels, dropout
        self.network = self.fresh()

    def fresh(self) -> nn.Sequential:
        """A network with random weights."""
        widths = (self.pixels, self.setting.hidden, self.setting.hidden)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(self.dropout)]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(self.setting.hidden, self.setting.labels))

    def learn(self, task: Task) -> None:
        """Trains on one task."""
        train(self.network, unit(task.train.x), self.certain(task.train.y), SEQUENTIAL_EPOCHS)

    def sleep(self) -> bool:
        """Never."""
        return False

    def labels(self, task: str, x: Tensor) -> Tensor:  # noqa: ARG002 - one network for all
        """The most likely label of the single head."""
        return self.guess(unit(x)).argmax(dim=1)

    def certain(self, y: Tensor) -> Tensor:
        """Labels as probabilities."""
        return F.one_hot(y, self.setting.labels).float()

    def guess(self, x: Tensor) -> Tensor:
        """Probabilities of images in [0, 1]."""
        self.network.eval()
        with torch.inference_mode():
            return torch.cat([self.network(part).softmax(dim=1) for part in x.split(AT_ONCE)])


class Rehearsal(Plain):
    """PPR: beside each task as many random images as memory holds, labelled by the network as it was.

    Robins, "Catastrophic forgetting, rehearsal and pseudorehearsal", 1995. Pixels are uniform in [0, 1].
    """

    learned = 0

    def learn(self, task: Task) -> None:
        """Trains on one task and, but for the first, on pseudopatterns."""
        x, y = unit(task.train.x), self.certain(task.train.y)
        if self.learned:
            noise = torch.rand((REHEARSED - 1) * len(x), *x.shape[1:])
            x, y = torch.cat([x, noise]), torch.cat([y, self.guess(noise)])
        train(self.network, x, y, SEQUENTIAL_EPOCHS)
        self.learned += 1


class Elastic(Plain):
    """EWC: each task adds λ/2 Σ F_i (θ_i − θ*_i)², with F the Fisher information at θ* over the task's images.

    Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", 2017. The sum over tasks is a quadratic
    form again: what is kept are ΣF and ΣFθ*.
    """

    def __init__(self, setting: Setting, pixels: int) -> None:
        super().__init__(setting, pixels)
        self.weight = {name: torch.zeros_like(p) for name, p in self.network.named_parameters()}
        self.pull = {name: torch.zeros_like(p) for name, p in self.network.named_parameters()}

    def learn(self, task: Task) -> None:
        """Trains on one task under the penalty of all before it, then adds its own."""
        x = unit(task.train.x)
        train(self.network, x, self.certain(task.train.y), SEQUENTIAL_EPOCHS, self.penalty)
        for name, fisher in self.fisher(x).items():
            self.weight[name] += fisher
            self.pull[name] += fisher * self.network.get_parameter(name).detach()

    def penalty(self, network: nn.Module) -> Tensor:
        """The sum of all tasks' penalties, up to a constant."""
        terms = [
            (0.5 * self.weight[name] * p.square() - self.pull[name] * p).sum() for name, p in network.named_parameters()
        ]
        return FISHER_WEIGHT * torch.stack(terms).sum()

    def fisher(self, x: Tensor) -> dict[str, Tensor]:
        """Mean squared gradients of the log-likelihood of labels that the network itself draws."""
        weights = {name: p.detach() for name, p in self.network.named_parameters()}
        total = {name: torch.zeros_like(p) for name, p in weights.items()}
        drawn = torch.multinomial(self.guess(x), 1)[:, 0]

        def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(self.network, weights, (x[None],)), y[None])

        each = vmap(grad(loss), in_dims=(None, 0, 0))
        for images, y in zip(x.split(BATCH), drawn.split(BATCH), strict=True):
            for name, gradients in each(weights, images, y).items():
                total[name] += gradients.square().sum(dim=0)
        return {name: squares / len(x) for name, squares in total.items()}


class Joint(Plain):
    """A fresh network on the data of all tasks so far."""

    def __init__(self, setting: Setting, pixels: int) -> None:
        super().__init__(setting, pixels)
        self.kept: list[Task] = []

    def learn(self, task: Task) -> None:
        """Trains on this task and all before it."""
        self.kept.append(task)
        self.network = self.fresh()
        x, y = (torch.cat(parts) for parts in zip(*((t.train.x, t.train.y) for t in self.kept), strict=True))
        train(self.network, unit(x), self.certain(y), JOINT_EPOCHS)


def unit(x: Tensor) -> Tensor:
    """uint8 images to [0, 1], as the paper has them."""
    return x.float() / 255


def train(network: nn.Module, x: Tensor, y: Tensor, epochs: int, penalty: Penalty | None = None) -> None:
    """Minimises cross-entropy with the paper's optimiser.

    Arguments:
        x: images in [0, 1].
        y: probabilities of their labels.
        penalty: added to the loss of every batch.
    """
    optimiser = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.9, eps=1e-8)
    network.train()
    for rows in _batches(len(x), epochs):
        loss = F.cross_entropy(network(x[rows]), y[rows])
        if penalty is not None:
            loss = loss + penalty(network)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def _batches(n: int, epochs: int) -> Iterator[Tensor]:
    for _ in range(epochs):
        yield from torch.randperm(n).split(BATCH)


def dropped(setting: Setting, pixels: int) -> Plain:
    """DropNN."""
    return Plain(setting, pixels, DROPOUT)
