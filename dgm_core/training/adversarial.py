"""Adversarial training of one task: a game along a schedule, norms measured anew."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from dgm_core.checkpoints import NONE, Checkpoints, State
from dgm_core.networks.discriminators import Discriminator
from dgm_core.networks.norms import Draw, reestimate_norms
from dgm_core.training.batches import Batches
from dgm_core.training.clock import Clock
from dgm_core.training.devices import autocast
from dgm_core.training.recipes import Recipe
from dgm_core.training.running import Run, Trained, norm_batches
from dgm_core.training.states import copy_into, of_optimiser, part, resume_optimiser, under
from dgm_core.training.trainees import Trainee


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

    def __call__(self, batches: Batches) -> None:
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

    def _critic(self, batches: Batches) -> Tensor:
        real, c_real = batches.draw(self.recipe.batch)
        with self._autocast(real):
            with torch.no_grad():
                fake = self.g(self._noise(real), c_real)
            loss = self.objective.critic_loss(self.d, real, fake.float(), c_real, c_real)
        self.optimise_d.zero_grad(set_to_none=True)
        loss.backward()
        self.optimise_d.step()
        return loss.detach()

    def _generator(self, batches: Batches) -> Tensor:
        c = torch.randint(batches.classes, (self.recipe.batch,), device=batches.x.device)
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
    batches: Batches,
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
    run = Run(AdversarialStep(g, d, recipe, noise_dim), batches, wanted, recipe.ema, clock, checkpoints)
    run.whole()
    reestimate_norms(g.network, g, _draws(batches, 4 * recipe.batch, noise_dim, norm_batches(clock, wanted)))
    clock.tick("generator", wanted, wanted)
    return run.trained


def _draws(batches: Batches, rows: int, noise_dim: int, numbers: Iterable[int]) -> Iterator[Draw]:
    """Noise and balanced classes to measure norms with, as often as there are numbers."""
    device = batches.x.device
    c = torch.arange(rows, device=device) % batches.classes
    for _ in numbers:
        yield torch.randn(rows, noise_dim, device=device), c
