"""Objectives: how a discriminator judges and how it is told the class, as losses for both sides.

fast     logistic loss, class by projection, R1 on real examples
paper    AC-GAN + WGAN-GP: L_D = L_s + L_c + λ_GP L_gp,  L_G = L_s + L_c + λ_RU R    [DGM sec. 3.3]
"""

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dgm_core.losses.adversarial import Logistic, Wasserstein
from dgm_core.losses.penalties import gradient_penalty, r1_penalty
from dgm_core.networks.discriminators import Discriminator


class Objective(Protocol):
    """Losses of both sides of the game for a batch of real and generated examples with their classes."""

    def critic_loss(self, d: Discriminator, real: Tensor, fake: Tensor, c_real: Tensor, c_fake: Tensor) -> Tensor:
        """Minimised by the discriminator; `fake` is detached."""
        ...

    def generator_loss(self, d: Discriminator, fake: Tensor, c_fake: Tensor) -> Tensor:
        """Minimised by the generator, before the cost of reservation."""
        ...

    def resume(self, taken: int) -> None:
        """Goes on as after so many steps of the critic."""
        ...


class LogisticProjection:
    """Logistic loss on scores that know the class by projection, and a penalty on the critic's slope at real examples.

    Arguments:
        penalty: γ of R1.
        every: steps of the critic between two penalties, each of which then weighs as much as all that it stands for
            (Karras et al. 2020, sec. 3.1).
    """

    def __init__(self, penalty: float = 1.0, every: int = 4) -> None:
        self.loss, self.penalty, self.every = Logistic(), penalty, every
        self.steps = 0

    def critic_loss(
        self,
        d: Discriminator,
        real: Float[Tensor, "batch *shape"],
        fake: Float[Tensor, "batch *shape"],
        c_real: Int[Tensor, " batch"],
        c_fake: Int[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """Logistic loss of the critic, with γ·R1 at every `every`th step."""
        scores = d(torch.cat([real, fake]), torch.cat([c_real, c_fake])).float()  # one pass is faster than two
        loss = self.loss.critic(*scores.split([len(real), len(fake)]))
        self.steps += 1
        if self.steps % self.every:
            return loss
        with torch.autocast(real.device.type, enabled=False):  # second derivatives need all their digits
            return loss + self.every * self.penalty * r1_penalty(lambda x: d(x, c_real), real)

    def generator_loss(
        self, d: Discriminator, fake: Float[Tensor, "batch *shape"], c_fake: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """Logistic loss of the generator."""
        return self.loss.generator(d(fake, c_fake).float())

    def resume(self, taken: int) -> None:
        """The next penalty comes when it would have."""
        self.steps = taken


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
        loss = self.loss.critic(score_real.float(), score_fake.float()) + F.cross_entropy(logits.float(), c_real)
        with torch.autocast(real.device.type, enabled=False):  # second derivatives need all their digits
            return loss + self.penalty * gradient_penalty(lambda x: d.judge(x)[0], real, fake)

    def generator_loss(
        self, d: Discriminator, fake: Float[Tensor, "batch *shape"], c_fake: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """L_s + L_c on generated examples."""
        score, logits = d.judge(fake)
        return self.loss.generator(score.float()) + F.cross_entropy(logits.float(), c_fake)

    def resume(self, taken: int) -> None:
        """All steps are alike."""
