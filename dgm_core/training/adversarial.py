"""Adversarial training of one task: anneal the gates, harden, fine-tune on hard masks, settle."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dgm_core.masking.annealing import Annealing
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.masking.sparsity import scarcity
from dgm_core.memory import TrainingDiverged
from dgm_core.networks.discriminators import Discriminator
from dgm_core.training.averaging import Average
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.clock import Clock
from dgm_core.training.recipes import Recipe

PROBE_STEPS = 30
MOST_EPOCHS = 20
NORM_BATCHES = 40


class AdversarialStep:
    """One step of the game: `critic_steps` of the discriminator, one of the generator.

    Arguments:
        g: the generator behind its masks.
        d: the discriminator.
        recipe: losses, learning rates, batch size.
        noise_dim: length of z.
    """

    def __init__(self, g: MaskedGenerator, d: Discriminator, recipe: Recipe, noise_dim: int) -> None:
        self.g, self.d, self.recipe, self.noise_dim = g, d, recipe, noise_dim
        self.objective = recipe.objective()
        self.losses: dict[str, Tensor] = {}
        self.price = recipe.reservation * scarcity(g.reserved)
        # Fresh optimisers per task, without weight decay: state or decay carried over would move reserved weights.
        groups: list[dict[str, Any]] = [
            {"params": [*g.weights.values(), *g.own]},
            {"params": list(g.embeddings.values()), "lr": recipe.lr_e},
        ]
        self.optimise_g = torch.optim.Adam(
            groups,
            lr=recipe.lr_g,
            betas=recipe.betas,
            fused=True,
        )
        self.optimise_d = torch.optim.Adam(d.parameters(), lr=recipe.lr_d, betas=recipe.betas, fused=True)

    def __call__(self, batches: BalancedBatches) -> None:
        """Takes one step and leaves its losses, detached and still on the device, in `losses`."""
        for _ in range(self.recipe.critic_steps):
            self.losses["critic_loss"] = self._critic(batches)
        self.losses["generator_loss"] = self._generator(batches)

    def _critic(self, batches: BalancedBatches) -> Tensor:
        real, c_real = batches.draw(self.recipe.batch)
        with torch.no_grad():
            fake = self.g(self._noise(real), c_real)
        loss = self.objective.critic_loss(self.d, real, fake, c_real, c_real)
        self.optimise_d.zero_grad(set_to_none=True)
        loss.backward()
        self.optimise_d.step()
        return loss.detach()

    def _generator(self, batches: BalancedBatches) -> Tensor:
        c = torch.randint(len(batches.counts), (self.recipe.batch,), device=batches.counts.device)
        with frozen(self.d):
            fake, cost = self.g.with_cost(self._noise(c), c)
            loss = self.objective.generator_loss(self.d, fake, c) + self.price * cost
            self.optimise_g.zero_grad(set_to_none=True)
            loss.backward()
        self.g.before_step()
        self.optimise_g.step()
        return loss.detach()

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape[0], self.noise_dim, device=like.device)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Saves the gradients that nobody asked for while the other side learns."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def train_generator(
    g: MaskedGenerator,
    d: Discriminator,
    batches: BalancedBatches,
    recipe: Recipe,
    noise_dim: int,
    wanted: int,
    clock: Clock,
) -> int:
    """Trains the masks and weights of one task and leaves `g` hard, averaged and settled.

    Arguments:
        wanted: steps to take; a clock whose limit is too short for them walks through the same schedule in fewer.

    Returns:
        the number of steps taken.
    Raises:
        TrainingDiverged: a loss became NaN or infinite.
    """
    step = AdversarialStep(g, d, recipe, noise_dim)
    clock.tick("generator", 0, wanted)
    taken = min(PROBE_STEPS, wanted)
    clock.expect(wanted * _pace(step, batches, taken))
    hard_from = max(taken, round(recipe.hard_at * wanted))
    taken = _anneal(step, batches, taken, hard_from, wanted, clock)
    g.harden()
    taken = _fine_tune(step, batches, taken, wanted, clock)
    _check(step.losses)
    if moved := g.settle():
        raise TrainingDiverged(f"{moved} reserved weights moved during training; this is a defect, please report it")
    reestimate_norms(g, batches, recipe.batch, noise_dim)
    clock.tick("generator", wanted, wanted)
    return taken


def _anneal(
    step: AdversarialStep, batches: BalancedBatches, taken: int, hard_from: int, wanted: int, clock: Clock
) -> int:
    """Soft masks whose slope rises until they are steps; returns the number of steps taken so far."""
    annealing = Annealing(hard_from, max(1, min(MOST_EPOCHS, hard_from // 20)), step.recipe.s_max)
    while (at := clock.position(taken, wanted)) < hard_from:
        step.g.slope = annealing.slope(at)
        step(batches)
        taken += 1
        _watch(step, at, wanted, clock)
    return taken


def _fine_tune(step: AdversarialStep, batches: BalancedBatches, taken: int, wanted: int, clock: Clock) -> int:
    """The committed masks, and an average over what they may still change; returns the number of steps taken so far."""
    average = Average(dict(step.g.network.named_parameters()), step.g.trainable(), step.recipe.ema)
    while (at := clock.position(taken, wanted)) < wanted:
        step(batches)
        taken += 1
        if step.recipe.ema:
            average.update()
        _watch(step, at, wanted, clock)
    if step.recipe.ema:
        average.apply()
    return taken


def _watch(step: AdversarialStep, at: int, wanted: int, clock: Clock) -> None:
    if clock.due():  # reading a loss waits for the device, so twice a second is enough
        losses, occupied = _check(step.losses), step.g.occupancy()
        occupancy = sum(occupied.values()) / len(occupied)
        clock.tick("generator", at, wanted, {**losses, "slope": step.g.slope, "mask_occupancy": occupancy})


def _check(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The losses as numbers. Raises TrainingDiverged if one is none."""
    values = {name: float(value) for name, value in losses.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingDiverged(f"{name} became {value}; send the task again, and look at its data for outliers")
    return values


def _pace(step: AdversarialStep, batches: BalancedBatches, probe: int) -> float:
    """Seconds per step, judged by the later half of the first steps: the very first ones also set everything up."""
    for i in range(probe):
        if i == probe // 2:
            started = time.monotonic()
        step(batches)
    if batches.x.is_cuda:
        torch.cuda.synchronize()
    return (time.monotonic() - started) / (probe - probe // 2)


@torch.no_grad()
def reestimate_norms(g: MaskedGenerator, batches: BalancedBatches, batch: int, noise_dim: int) -> None:
    """Measures the batch norms' statistics anew, with the weights that will be committed."""
    norms = [module for module in g.network.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    classes = len(batches.counts)
    device = batches.counts.device
    for _ in range(NORM_BATCHES):
        c = torch.arange(4 * batch, device=device) % classes
        g(torch.randn(4 * batch, noise_dim, device=device), c)
    g.network.eval()
