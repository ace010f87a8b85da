"""Training of a variational autoencoder: descent of the bound, in float32."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dgm_core.checkpoints import NONE, Checkpoints, State
from dgm_core.losses.variational import bernoulli_error, gaussian_divergence, gaussian_error
from dgm_core.networks.norms import Draw, reestimate_norms
from dgm_core.networks.variational import Variational
from dgm_core.training.batches import Batches
from dgm_core.training.clock import Clock
from dgm_core.training.running import Run, Trained, norm_batches
from dgm_core.training.states import copy_into, of_optimiser, part, resume_optimiser, under
from dgm_core.training.trainees import Free, Trainee

Error = Callable[[Tensor, Tensor], Tensor]
"""−log p of a batch of examples, given what the decoder made of their latents."""


@dataclass(frozen=True)
class VariationalRecipe:
    """How a variational autoencoder is trained.

    Arguments:
        error: of images; vectors have the Gaussian one.
        beta: weight of the divergence from the prior.
        batch: examples per step.
        lr: learning rate.
        published: RMSProp as published, gradients clipped  [DGDMN app. B]; otherwise Adam.
        ema: decay of the averaged weights; 0 switches averaging off.
    """

    error: Error = gaussian_error
    beta: float = 1.0
    batch: int = 64
    lr: float = 2e-3
    published: bool = False
    ema: float = 0.999


VAE = VariationalRecipe()
"""With the Gaussian error images are sharper than with the Bernoulli one, and classifiers learn more from them."""

VAE_PAPER = VariationalRecipe(error=bernoulli_error, lr=1e-3, batch=128, published=True, ema=0.0)
"""The setting of Kamra et al. 2018  [DGDMN app. B]."""

CLIP_NORM, CLIP_VALUE = 1.0, 0.5


class VariationalStep:
    """One step down the bound.

    Arguments:
        network: encoder and decoder.
        recipe: loss and optimiser.
        error: of reconstructions.
    """

    def __init__(self, network: Variational, recipe: VariationalRecipe, error: Error) -> None:
        self.network, self.recipe, self.error = network, recipe, error
        self.g: Trainee = Free(network)
        self.losses: dict[str, Tensor] = {}
        self.optimiser: torch.optim.Optimizer
        if recipe.published:
            self.optimiser = torch.optim.RMSprop(self.g.groups(), lr=recipe.lr, alpha=0.9, eps=1e-8)
        else:
            self.optimiser = torch.optim.Adam(self.g.groups(), lr=recipe.lr, fused=True)

    def __call__(self, batches: Batches) -> None:
        """Takes one step and leaves its losses, detached and still on the device, in `losses`."""
        x, c = batches.draw(self.recipe.batch)
        mean, log_variance = self.network.encode(x)
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        target = (x - self.network.shift) / self.network.scale
        error = self.error(target, self.network.decode(latent))
        divergence = gaussian_divergence(mean, log_variance, *self.network.prior(c))
        self.optimiser.zero_grad(set_to_none=True)
        (error + self.recipe.beta * divergence).backward()
        if self.recipe.published:
            learning = [p for group in self.optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(learning, CLIP_NORM)
            nn.utils.clip_grad_value_(learning, CLIP_VALUE)
        self.optimiser.step()
        self.losses = {"reconstruction_error": error.detach(), "divergence": divergence.detach()}

    def tensors(self) -> dict[str, Tensor]:
        """The network, live: what is copied into it takes effect."""
        return self.g.tensors()

    def remembered(self) -> dict[str, Tensor]:
        """What the optimiser remembers."""
        return under("optimiser", of_optimiser(self.optimiser))

    def resume(self, state: State, taken: int) -> None:  # noqa: ARG002 - all steps are alike
        """Goes on from a state."""
        copy_into(self.tensors(), state.tensors)
        resume_optimiser(self.optimiser, part("optimiser", state.tensors))


def train_variational(
    network: Variational,
    batches: Batches,
    recipe: VariationalRecipe,
    wanted: int,
    clock: Clock,
    checkpoints: Checkpoints = NONE,
) -> Trained:
    """Trains a variational autoencoder, takes its average and measures its norms anew; leaves it in evaluation mode.

    Arguments:
        wanted: steps to take; a clock whose limit is too short for them takes fewer.

    Raises:
        TrainingDiverged: a loss became NaN or infinite.
        Cancelled: as raised by the clock's reports, or by `checkpoints`.
    """
    error = recipe.error if batches.x.dtype == torch.uint8 else gaussian_error
    run = Run(VariationalStep(network, recipe, error), batches, wanted, recipe.ema, clock, checkpoints)
    run.whole()
    reestimate_norms(network, network, _draws(network, batches, 4 * recipe.batch, norm_batches(clock, wanted)))
    clock.tick("generator", wanted, wanted)
    return run.trained


def _draws(network: Variational, batches: Batches, rows: int, numbers: Iterable[int]) -> Iterator[Draw]:
    """Latents of examples to measure norms with, as often as there are numbers."""
    for _ in numbers:
        mean, log_variance = network.encode(batches.draw(rows)[0])
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        yield z, torch.zeros(rows, dtype=torch.long, device=z.device)
