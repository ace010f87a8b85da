"""Decoders that are told a class by where they look: its examples are a Gaussian in the latent space.

    x = decoder(μ_c + L_c z),   z ~ N(0, I)

An autoencoder that knows no classes becomes a generator of single ones by a density that is fitted to the latents of
each, once it is trained (Ghosh et al. 2020, sec. 4).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dgm_core.networks.architecture import Generator
from dgm_core.networks.layers import Units
from dgm_core.topology import Topology

LEAST_VARIANCE = 1e-6
"""So that a class whose examples are all alike has a Gaussian, too."""


class Placed(Generator):
    """A decoder that reads noise where the examples of a class were found.

    Arguments:
        decoder: of one class, whose noise is a latent.
        mean: μ, for each class.
        factor: L, for each class; L·Lᵀ is the covariance of its latents.
    """

    mean: Tensor
    factor: Tensor

    def __init__(
        self, decoder: Generator, mean: Float[Tensor, "classes d"], factor: Float[Tensor, "classes d d"]
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)

    @property
    def topology(self) -> Topology:
        """The decoder's."""
        own = self.decoder.topology
        names = tuple(f"decoder.{name}" for name in own.groups)
        return replace(
            own, groups=names, connections=tuple(replace(c, name=f"decoder.{c.name}") for c in own.connections)
        )

    def forward(self, z: Float[Tensor, "batch d"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples for noise z and class indices c."""
        # Not a product of matrices, whose sums depend on how many rows there are: more than a `Generator` must promise.
        latent = self.mean[c] + (self.factor[c] * z[:, None, :]).sum(dim=2)
        x: Tensor = self.decoder(latent, torch.zeros_like(c))
        return x

    def folded(self) -> "Placed":
        """See `Generator.folded`."""
        return self._of(self.decoder.folded())

    def narrowed(self, units: Sequence[Units]) -> "Placed":
        """See `Generator.narrowed`."""
        return self._of(self.decoder.narrowed(units))

    def served(self) -> "Placed":
        """See `Generator.served`."""
        return self._of(self.decoder.served())

    def _of(self, decoder: Generator) -> "Placed":
        return Placed(decoder, self.mean, self.factor).eval()


def fitted(
    latents: Float[Tensor, "n d"], variances: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and factor of the Gaussian that fits the latents of a class best, which are known but for their variances.

    Fitted in double precision. One example is enough: the variances of its latent are then all there is.
    """
    centred = latents.double() - latents.double().mean(dim=0)
    covariance = centred.T @ centred / len(latents) + torch.diag(
        variances.double().mean(dim=0).clamp_min(LEAST_VARIANCE)
    )
    return latents.mean(dim=0), torch.linalg.cholesky(covariance).to(latents.dtype)
