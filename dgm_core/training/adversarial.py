"""Adversarial training of one task: a game along a schedule, an average of what was learned, norms measured anew."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.checkpoints import NONE, Checkpoints, State
from dgm_core.errors import TrainingDiverged
from dgm_core.networks.discriminators import Discriminator
from dgm_core.networks.norms import Draw, reestimate_norms
from dgm_core.training.averaging import Average
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.clock import Clock
from dgm_core.training.devices import autocast
from dgm_core.training.recipes import Recipe
from dgm_core.training.states import (
    copy_into,
    of_optimiser,
    of_randomness,
    part,
    resume_optimiser,
    resume_randomness,
    under,
)
from dgm_core.training.trainees import PROBE_STEPS, Trainee

NORM_BATCHES = 40
MOST_POINTS = 60


@dataclass
class Trained:
    """What is known of a generator's training.

    Arguments:
        steps: that were taken.
        trajectory: of the gates, if it has such, at most about `MOST_POINTS`: step, slope (0 once hard), mean of the
            gates per layer.
    """

    steps: int = 0
    trajectory: list[dict[str, Any]] = field(default_factory=list)


class AdversarialStep:
    """One step of the game: `critic_steps` of the discriminator, one of the generator.

    Arguments:
        g: the generator, as it is trained.
        d: the discriminator.
        recipe: losses, learning rates, batch size.
        noise_dim: length of z.
    """

    def __init__(self, g: Trainee, d: Discriminator, recipe: Recipe, noise_dim: int) -> None:
        self.g, self.d, self.recipe, self.noise_dim = g, d, recipe, noise_dim
        self.objective = recipe.objective()
        self.losses: dict[str, Tensor] = {}
        # Fresh optimisers per task, without weight decay: state or decay carried over would move what is frozen.
        self.optimise_g = torch.optim.Adam(g.groups(), lr=recipe.lr_g, betas=recipe.betas, fused=True)
        learning = [p for p in d.parameters() if p.requires_grad]
        self.optimise_d = torch.optim.Adam(learning, lr=recipe.lr_d, betas=recipe.betas, fused=True)

    def __call__(self, batches: BalancedBatches) -> None:
        """Takes one step and leaves its losses, detached and still on the device, in `losses`."""
        for _ in range(self.recipe.critic_steps):
            self.losses["critic_loss"] = self._critic(batches)
        self.losses["generator_loss"] = self._generator(batches)

    def tensors(self) -> dict[str, Tensor]:
        """The networks and what the task has for itself, live: what is copied into them takes effect."""
        return under("generator", self.g.tensors()) | under("critic", self.d.state_dict())

    def remembered(self) -> dict[str, Tensor]:
        """What the optimisers remember."""
        return under("optimise_g", of_optimiser(self.optimise_g)) | under("optimise_d", of_optimiser(self.optimise_d))

    def resume(self, state: State, taken: int) -> None:
        """Goes on from a state, after so many steps."""
        copy_into(self.tensors(), state.tensors)
        self.g.resume(state.values["marks"])
        resume_optimiser(self.optimise_g, part("optimise_g", state.tensors))
        resume_optimiser(self.optimise_d, part("optimise_d", state.tensors))
        self.objective.resume(taken * self.recipe.critic_steps)

    def _critic(self, batches: BalancedBatches) -> Tensor:
        real, c_real = batches.draw(self.recipe.batch)
        with self._autocast(real):
            with torch.no_grad():
                fake = self.g(self._noise(real), c_real)
            loss = self.objective.critic_loss(self.d, real, fake.float(), c_real, c_real)
        self.optimise_d.zero_grad(set_to_none=True)
        loss.backward()
        self.optimise_d.step()
        return loss.detach()

    def _generator(self, batches: BalancedBatches) -> Tensor:
        c = torch.randint(len(batches.counts), (self.recipe.batch,), device=batches.counts.device)
        with frozen(self.d):
            with self._autocast(c):
                fake, cost = self.g.with_cost(self._noise(c), c)
                loss = self.objective.generator_loss(self.d, fake, c) + cost
            self.optimise_g.zero_grad(set_to_none=True)
            loss.backward()
        self.g.before_step()
        self.optimise_g.step()
        return loss.detach()

    def _autocast(self, like: Tensor) -> AbstractContextManager[object]:
        return autocast(like.device, half=self.recipe.half)

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape[0], self.noise_dim, device=like.device)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Saves the gradients that nobody asked for while the other side learns."""
    learning = [p for p in network.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)


def train_generator(
    g: Trainee,
    d: Discriminator,
    batches: BalancedBatches,
    recipe: Recipe,
    noise_dim: int,
    wanted: int,
    clock: Clock,
    checkpoints: Checkpoints = NONE,
) -> Trained:
    """Trains a generator, averages what it may average, and measures its norms anew; leaves it in evaluation mode.

    Arguments:
        wanted: steps to take; a clock whose limit is too short for them walks through the same schedule in fewer.
        checkpoints: where the state is put down; what is found there is gone on from.

    Raises:
        TrainingDiverged: a loss became NaN or infinite.
        Cancelled: as raised by the clock's reports, or by `checkpoints`.
    """
    run = _Run(AdversarialStep(g, d, recipe, noise_dim), batches, wanted, clock, checkpoints)
    if (state := checkpoints.found()) is not None:
        run.resume(state)
    else:
        run.warm_up()
    run.go_on()
    run.finish()
    reestimate_norms(g.network, g, _draws(batches, 4 * recipe.batch, noise_dim))
    clock.tick("generator", wanted, wanted)
    return run.trained


class _Run:
    """The steps of one training, along a schedule of `wanted` steps."""

    def __init__(
        self, step: AdversarialStep, batches: BalancedBatches, wanted: int, clock: Clock, checkpoints: Checkpoints
    ) -> None:
        self.step, self.batches, self.wanted, self.clock = step, batches, wanted, clock
        self.checkpoints = checkpoints
        self.recipe = step.recipe
        self.trained = Trained()
        self.average: Average | None = None
        self.next_point = 0

    def warm_up(self) -> None:
        """The first steps, which also tell how long the rest will take."""
        self.clock.tick("generator", 0, self.wanted)
        self._record(0)
        probe = min(PROBE_STEPS, self.wanted)
        for i in range(probe):
            if i == probe // 2:  # the very first steps also set everything up
                started = self._now()
            self.step(self.batches)
        self.trained.steps = probe
        self.clock.expect(self.wanted * (self._now() - started) / (probe - probe // 2))

    def go_on(self) -> None:
        """The rest of the schedule; from where the generator is settled on, an average follows it."""
        while (at := self._position()) < self.wanted:
            self._enter(at)
            self._advance(at)
            if self.average is not None:
                self.average.update()
            if self.checkpoints.due():
                self.checkpoints.keep(self.state())

    def state(self) -> State:
        """All that the steps so far have changed."""
        average = {} if self.average is None else under("average", self.average.mean)
        tensors = self.step.tensors() | self.step.remembered() | average
        values = {
            "steps": self.trained.steps,
            "at": self._position(),
            "trajectory": self.trained.trajectory,
            "next_point": self.next_point,
            "marks": self.step.g.marks(),
            "updates": None if self.average is None else self.average.updates,
            "seconds": self.clock.seconds,
            "expected": self.clock.expected,
        }
        return State(tensors | under("random", of_randomness(self._device)), values)

    def resume(self, state: State) -> None:
        """Goes on from a state, in place of the first steps."""
        values = state.values
        self.trained = Trained(values["steps"], list(values["trajectory"]))
        self.next_point = values["next_point"]
        self.step.resume(state, self.trained.steps)
        if values["updates"] is not None:
            self.average = Average(*self.step.g.averaged(), self.recipe.ema, values["updates"])
            copy_into(self.average.mean, part("average", state.tensors))
        self.clock.resume(values["seconds"], values["expected"], values["at"])
        self.clock.tick("generator", 0, self.wanted)
        resume_randomness(self._device, part("random", state.tensors))

    def finish(self) -> None:
        """Takes the average, and looks at the last losses. Raises TrainingDiverged."""
        self._enter(self.wanted)
        _check(self.step.losses)
        if self.average is not None:
            self.average.apply()
        self.step.g.finish()

    def _enter(self, at: int) -> None:
        g = self.step.g
        was_settled = g.settled
        g.enter(at, self.wanted)
        if g.settled and self.average is None and self.recipe.ema:
            self.average = Average(*g.averaged(), self.recipe.ema)
        if g.settled and not was_settled:
            self._record(at)

    def _advance(self, at: int) -> None:
        self.step(self.batches)
        self.trained.steps += 1
        if not self.step.g.settled and at >= self.next_point:
            self._record(at)
        if self.clock.due():  # reading a loss waits for the device, so twice a second is enough
            metrics = _check(self.step.losses) | self.step.g.metrics()
            self.clock.tick("generator", at, self.wanted, metrics)

    def _record(self, at: int) -> None:
        """One more point of the trajectory, if there is anything to record."""
        if (point := self.step.g.point()) is not None:
            self.trained.trajectory.append({"step": at, **point})
        self.next_point = at + max(1, self.wanted // MOST_POINTS)

    def _position(self) -> int:
        return self.clock.position(self.trained.steps, self.wanted)

    @property
    def _device(self) -> torch.device:
        return self.batches.counts.device

    def _now(self) -> float:
        if self.batches.x.is_cuda:
            torch.cuda.synchronize()
        return time.monotonic()


def _check(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The losses as numbers. Raises TrainingDiverged if one is none."""
    values = {name: float(value) for name, value in losses.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingDiverged(f"{name} became {value}; send the task again, and look at its data for outliers")
    return values


def _draws(batches: BalancedBatches, rows: int, noise_dim: int) -> Iterator[Draw]:
    """Noise and balanced classes to measure norms with."""
    device = batches.counts.device
    c = torch.arange(rows, device=device) % len(batches.counts)
    for _ in range(NORM_BATCHES):
        yield torch.randn(rows, noise_dim, device=device), c
