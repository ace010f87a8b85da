"""Adversarial losses over critic scores; both sides are minimised.

hinge       D: E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))]     G: −E[D(G(z))]     Lim and Ye 2017
Wasserstein D: E[D(G(z))] − E[D(x)]                             G: −E[D(G(z))]     Arjovsky et al. 2017
"""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class AdversarialLoss(Protocol):
    """A pair of losses over scores, one for the critic and one for the generator."""

    def critic(self, real: Float[Tensor, " real"], fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """Minimised by the discriminator."""
        ...

    def generator(self, fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """Minimised by the generator."""
        ...


class Hinge:
    """Hinge loss: scores beyond the margin of 1 no longer matter."""

    def critic(self, real: Float[Tensor, " real"], fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))]."""
        return torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()

    def generator(self, fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """−E[D(G(z))]."""
        return -fake.mean()


class Wasserstein:
    """Wasserstein loss; the critic must be kept near 1-Lipschitz by a penalty."""

    def critic(self, real: Float[Tensor, " real"], fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """E[D(G(z))] − E[D(x)]."""
        return fake.mean() - real.mean()

    def generator(self, fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """−E[D(G(z))]."""
        return -fake.mean()
