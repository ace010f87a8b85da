"""Variational autoencoders whose decoder is one of our generators; neither half is told the class.

    p(z | c) = N(m_c, σ²)     in half of the dimensions; m_c is the landmark of the class
    p(z)     = N(0, 1)        in the others

Where labels are to be kept the bound has the prior of the example's class, so that the encoder has to tell the classes
apart even where they are the least of what it sees.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dgm_core.networks.architecture import Embedded
from dgm_core.networks.discriminators import Discriminator

SPREAD = 0.3


class Variational(nn.Module):
    """An encoder and a decoder.

    Landmarks are drawn and never trained: the encoder has to find them, apart from each other from the start.

    Arguments:
        decoder: of one class, whose noise z is.
        encoder: its features are used, and nothing else of it.
        noise_dim: length of z.
        shape: of one example.
        classes: that have a landmark; 0: the prior is the same for all.
    """

    landmarks: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(
        self, decoder: Embedded, encoder: Discriminator, noise_dim: int, shape: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.decoder, self.features = decoder, encoder.features
        self.noise_dim = noise_dim
        nn.init.zeros_(decoder.embedding.weight)
        decoder.embedding.requires_grad_(False)
        self.mean = nn.Linear(encoder.score.in_features, noise_dim)
        self.log_variance = nn.Linear(encoder.score.in_features, noise_dim)
        nn.init.zeros_(self.log_variance.weight)
        self.register_buffer("landmarks", torch.randn(classes, noise_dim // 2))
        scaled = shape if len(shape) == 1 else (1,)
        self.register_buffer("shift", torch.zeros(scaled))
        self.register_buffer("scale", torch.ones(scaled))

    def encode(self, x: Float[Tensor, "batch *shape"]) -> tuple[Float[Tensor, "batch z"], Float[Tensor, "batch z"]]:
        """Mean and logarithm of the variance of z, given x."""
        h = self.features((x - self.shift) / self.scale)
        return self.mean(h), self.log_variance(h)

    def forward(self, z: Float[Tensor, "batch z"], c: Tensor) -> Float[Tensor, "batch *shape"]:
        """What the decoder makes of z; c is 0, there is one class."""
        x: Tensor = self.decoder(z, c)
        return x

    def decode(self, z: Float[Tensor, "batch z"]) -> Float[Tensor, "batch *shape"]:
        """What the decoder makes of z."""
        return self.forward(z, torch.zeros(len(z), dtype=torch.long, device=z.device))

    def prior(self, c: Int[Tensor, " batch"]) -> tuple[Float[Tensor, "batch z"], Float[Tensor, " z"]]:
        """Mean, given the class, and standard deviation of z."""
        mean = self.mean.weight.new_zeros(len(c), self.noise_dim)
        deviation = mean.new_ones(self.noise_dim)
        if len(self.landmarks):
            among = self.landmarks.shape[1]
            mean[:, :among], deviation[:among] = self.landmarks[c], SPREAD
        return mean, deviation

    def standardise(self, shift: Float[Tensor, " f"], scale: Float[Tensor, " f"]) -> None:
        """From here on x is (x − shift)/scale to the encoder, while the decoder goes on as it is."""
        self.shift.copy_(shift)
        self.scale.copy_(scale)

    def settle(self) -> None:
        """From here on the decoder's vectors are in the scale of the encoder's x; images have one scale."""
        self.decoder.rescale(self.scale, self.shift)

    def unsettle(self) -> None:
        """The inverse of `settle`: vectors come out standardised."""
        self.decoder.rescale(torch.ones_like(self.scale), torch.zeros_like(self.shift))


def taken_over(fresh: Variational, known: Mapping[str, Tensor]) -> None:
    """Puts what another one has learned into a fresh one of the same widths, which may have further classes at the end.

    Arguments:
        known: state of the other one.
    """
    landmarks = fresh.landmarks.clone()
    landmarks[: len(known["landmarks"])] = known["landmarks"]
    fresh.load_state_dict({**known, "landmarks": landmarks})
