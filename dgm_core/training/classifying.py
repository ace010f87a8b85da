"""Training classifiers on replay, so that they hold on real examples."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dgm_core.experts import at_once
from dgm_core.manifest import DataSpec
from dgm_core.networks.classifiers import Classifier
from dgm_core.training.batches import BalancedBatches, MixedBatches, to_range
from dgm_core.training.devices import autocast, placed

BATCH = 128
SMALL_SIDE = 16
ROUGHNESS = 0.3

Pace = Callable[[int], int]
"""Where a schedule stands after so many steps; it is at its end when that is its length."""


@dataclass(frozen=True)
class Pool:
    """Labelled examples.

    Arguments:
        x: uint8 (n, C, H, W) or float32 (n, F).
        y: int64 (n,), indices into all classes.
    """

    x: Tensor
    y: Int[Tensor, " n"]


def train_classifier(
    spec: DataSpec,
    classes: int,
    pools: Sequence[Pool],
    steps: int,
    pace: Pace,
    share: float | None = None,
) -> Classifier:
    """A classifier trained on all pools together, every class equally often; its learning rate rises, and falls again.

    Arguments:
        spec: of one example.
        classes: length of the single head.
        pools: where examples come from; together they cover every class.
        steps: length of the schedule, in steps of `BATCH` examples.
        pace: where the schedule stands, asked before every step: at least as far as steps were taken.
        share: of every batch that comes from the first pool; None: what its classes make of it.
    """
    batches = _batches(pools, classes) if share is None else _mixed(pools, classes, share)
    network = Classifier(spec, classes).train()
    placed(network, pools[0].x.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=max(steps, 2))
    for at in positions(steps, pace):
        while schedule.last_epoch < at:
            schedule.step()
        examples, labels = batches.draw(BATCH)
        examples = worn(examples)
        with autocast(examples.device, half=True):
            guess = network(examples)
        loss = F.cross_entropy(guess.float(), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return network.eval()


def positions(steps: int, pace: Pace) -> Iterator[int]:
    """Where the schedule stands at each step that is taken, until it is at its end."""
    taken = 0
    while (at := pace(taken)) < steps:
        yield at
        taken += 1


def worn(x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
    """Images, each blurred and roughened to a degree that is drawn for it; small images and vectors as they are.

    Samples are smoother or rougher than what they stand for. A classifier that has seen all degrees of both looks for
    something else.
    """
    if x.ndim != 4 or min(x.shape[2:]) < SMALL_SIDE:
        return x
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    degree, roughness = torch.rand(2, len(x), 1, 1, 1, device=x.device)
    rough: Tensor = torch.lerp(x, blurred, degree) + ROUGHNESS * roughness * torch.randn_like(x)
    return rough


@torch.inference_mode()
def logits(network: Classifier, x: Tensor) -> Float[Tensor, "n classes"]:
    """Logits of x in its stored dtype, in evaluation mode."""
    return torch.cat([network(to_range(part)) for part in x.split(at_once(x.shape[1:], 1024))])


def accuracy(network: Classifier, pool: Pool) -> float:
    """Share of the pool that is labelled correctly, in [0, 1]."""
    return float((logits(network, pool.x).argmax(dim=1) == pool.y).float().mean())


def _batches(pools: Sequence[Pool], classes: int) -> BalancedBatches:
    return BalancedBatches(torch.cat([pool.x for pool in pools]), torch.cat([pool.y for pool in pools]), classes)


def _mixed(pools: Sequence[Pool], classes: int, share: float) -> MixedBatches:
    return MixedBatches(_batches(pools[:1], classes), _batches(pools[1:], classes), share)
