"""Objectives: how a discriminator judges and how it is told the class, as losses for both sides.

fast     hinge loss, class by projection, slope bounded by spectral norm
paper    AC-GAN + WGAN-GP: L_D = L_s + L_c + λ_GP L_gp,  L_G = L_s + L_c + λ_RU R    [DGM sec. 3.3]
"""

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dgm_core.losses.adversarial import Hinge, Wasserstein
from dgm_core.losses.penalties import gradient_penalty
from dgm_core.networks.discriminators import Discriminator


class Objective(Protocol):
    """Losses of both sides of the game for a batch of real and generated examples with their classes."""

    def critic_loss(self, d: Discriminator, real: Tensor, fake: Tensor, c_real: Tensor, c_fake: Tensor) -> Tensor:
        """Minimised by the discriminator; `fake` is detached."""
        ...

    def generator_loss(self, d: Discriminator, fake: Tensor, c_fake: Tensor) -> Tensor:
        """Minimised by the generator, before the cost of reservation."""
        ...


class HingeProjection:
    """Hinge loss on scores that know the class by projection."""

    def __init__(self) -> None:
        self.loss = Hinge()

    def critic_loss(
        self,
        d: Discriminator,
        real: Float[Tensor, "batch *shape"],
        fake: Float[Tensor, "batch *shape"],
        c_real: Int[Tensor, " batch"],
        c_fake: Int[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """Hinge loss of the critic; one pass over both halves is faster than two."""
        scores = d(torch.cat([real, fake]), torch.cat([c_real, c_fake]))
        return self.loss.critic(*scores.split([len(real), len(fake)]))

    def generator_loss(
        self, d: Discriminator, fake: Float[Tensor, "batch *shape"], c_fake: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """Hinge loss of the generator."""
        return self.loss.generator(d(fake, c_fake))


class AuxiliaryWasserstein:
    """AC-GAN with Wasserstein loss and gradient penalty, as published  [DGM sec. 3.3].

    Arguments:
        penalty: λ_GP.
    """

    def __init__(self, penalty: float = 10.0) -> None:
        self.loss, self.penalty = Wasserstein(), penalty

    def critic_loss(
        self,
        d: Discriminator,
        real: Float[Tensor, "batch *shape"],
        fake: Float[Tensor, "batch *shape"],
        c_real: Int[Tensor, " batch"],
        c_fake: Int[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """L_s + L_c on real examples + λ_GP L_gp; the class of generated ones plays no part."""
        del c_fake
        score_real, logits = d.judge(real)
        score_fake, _ = d.judge(fake)
        penalty = gradient_penalty(lambda x: d.judge(x)[0], real, fake)
        return self.loss.critic(score_real, score_fake) + F.cross_entropy(logits, c_real) + self.penalty * penalty

    def generator_loss(
        self, d: Discriminator, fake: Float[Tensor, "batch *shape"], c_fake: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """L_s + L_c on generated examples."""
        score, logits = d.judge(fake)
        return self.loss.generator(score) + F.cross_entropy(logits, c_fake)
