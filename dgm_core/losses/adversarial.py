"""Adversarial losses over critic scores; both sides are minimised.

logistic    D: E[log(1 + e^−D(x))] + E[log(1 + e^D(G(z)))]    G: E[log(1 + e^−D(G(z)))]    Goodfellow et al. 2014
Wasserstein D: E[D(G(z))] − E[D(x)]                           G: −E[D(G(z))]               Arjovsky et al. 2017
"""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class AdversarialLoss(Protocol):
    """A pair of losses over scores, one for the critic and one for the generator."""

    def critic(self, real: Float[Tensor, " real"], fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """Minimised by the discriminator."""
        ...

    def generator(self, fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """Minimised by the generator."""
        ...


class Logistic:
    """Non-saturating logistic loss: the generator's gradient does not vanish where the critic is sure."""

    def critic(self, real: Float[Tensor, " real"], fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """E[log(1 + exp(−D(x)))] + E[log(1 + exp(D(G(z))))]."""
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """E[log(1 + exp(−D(G(z))))]."""
        return F.softplus(-fake).mean()


class Wasserstein:
    """Wasserstein loss; the critic must be kept near 1-Lipschitz by a penalty."""

    def critic(self, real: Float[Tensor, " real"], fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """E[D(G(z))] − E[D(x)]."""
        return fake.mean() - real.mean()

    def generator(self, fake: Float[Tensor, " fake"]) -> Float[Tensor, ""]:
        """−E[D(G(z))]."""
        return -fake.mean()
