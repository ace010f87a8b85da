"""Variational autoencoders whose decoder is one of our generators, and whose encoder is not told the class.

    x → (u, e)     u ~ N(0, I) is the decoder's noise, e ~ N(embedding(c), σ²) what it reads in place of a class

So x is reconstructed without a label, and class c is sampled by giving the decoder noise and the embedding of c, as any
generator is: an expert is made of the decoder alone.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from dgm_core.networks.architecture import Generator
from dgm_core.networks.discriminators import Discriminator

SPREAD = 0.3


class Variational(nn.Module):
    """An encoder and a decoder.

    Embeddings of classes are drawn and never trained: they are landmarks that the encoder has to find, apart from each
    other from the start. Without `conditional` they are all 0, and what is sampled may be of any class.

    Arguments:
        decoder: from noise and what is read of a class.
        encoder: its features are used, and nothing else of it.
        noise_dim: length of u.
        shape: of one example.
        conditional: whether the class is apart from the noise.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, decoder: Generator, encoder: Discriminator, noise_dim: int, shape: tuple[int, ...], *, conditional: bool
    ) -> None:
        super().__init__()
        self.decoder, self.features = decoder, encoder.features
        self.noise_dim, self.conditional = noise_dim, conditional
        decoder.embedding.requires_grad_(False)
        if not conditional:
            nn.init.zeros_(decoder.embedding.weight)
        latent = noise_dim + (decoder.embedding.embedding_dim if conditional else 0)
        self.mean = nn.Linear(encoder.score.in_features, latent)
        self.log_variance = nn.Linear(encoder.score.in_features, latent)
        nn.init.zeros_(self.log_variance.weight)
        scaled = shape if len(shape) == 1 else (1,)
        self.register_buffer("shift", torch.zeros(scaled))
        self.register_buffer("scale", torch.ones(scaled))

    def encode(
        self, x: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and logarithm of the variance of (u, e), given x."""
        h = self.features((x - self.shift) / self.scale)
        return self.mean(h), self.log_variance(h)

    def decode(self, latent: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch *shape"]:
        """Examples for (u, e)."""
        u, e = latent[:, : self.noise_dim], latent[:, self.noise_dim :]
        rows = torch.arange(len(latent), device=latent.device)
        if not self.conditional:
            e = e.new_zeros(len(latent), self.decoder.embedding.embedding_dim)
        x: Tensor = functional_call(self.decoder, {"embedding.weight": e}, (u, rows))
        return x

    def forward(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """What the decoder makes of noise and class indices."""
        x: Tensor = self.decoder(z, c)
        return x

    def prior(self, c: Int[Tensor, " batch"]) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, " latent"]]:
        """Mean, given the class, and standard deviation of (u, e)."""
        u = self.mean.weight.new_zeros(len(c), self.noise_dim)
        deviation = u.new_ones(self.noise_dim)
        if not self.conditional:
            return u, deviation
        e = self.decoder.embedding(c)
        return torch.cat([u, e], dim=1), torch.cat([deviation, torch.full_like(e[0], SPREAD)])

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
    landmarks = fresh.decoder.embedding.weight.detach().clone()
    former = known["decoder.embedding.weight"]
    landmarks[: len(former)] = former
    fresh.load_state_dict({**known, "decoder.embedding.weight": landmarks})
