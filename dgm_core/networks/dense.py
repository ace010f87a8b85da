"""Fully connected networks for small images: every unit sees every pixel, as in the first autoencoders.

They have no norms: their biases belong to the task, as the head does.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dgm_core.networks.architecture import EMBEDDING_DIM, Architecture, initialise
from dgm_core.networks.chains import ChainGenerator
from dgm_core.networks.discriminators import Discriminator, mlp_discriminator
from dgm_core.topology import Connection


class Picture(nn.Module):
    """Pixel by pixel to an image in [-1, 1].

    Arguments:
        shape: of the image.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, h: Float[Tensor, "n pixels"]) -> Float[Tensor, "n c height width"]:
        """The squashed image."""
        x: Tensor = torch.tanh(h).unflatten(1, self.shape)
        return x

    def extra_repr(self) -> str:
        """Its shape: networks of other shapes are not alike."""
        return str(self.shape)


class Dense(Architecture):
    """Two linear layers of the memory and one of the task, ReLU between them: the networks of Kamra et al. 2018."""

    def initial_std(self, connection: Connection) -> float:
        """That of He et al. 2015: there is no norm that would set the scale right."""
        return float((2 / connection.shape[connection.in_axis]) ** 0.5)

    def initial_widths(self, f: int) -> tuple[int, ...]:
        """Two layers of 8f."""
        return (8 * f, 8 * f)

    def generator(self, widths: Sequence[int], classes: int, embedding: int = EMBEDDING_DIM) -> ChainGenerator:
        """See `Architecture.generator`."""
        pixels = torch.Size(self.spec.shape).numel()
        network = ChainGenerator(
            nn.Embedding(classes, embedding),
            [nn.Linear(a, b) for a, b in pairwise([self.noise_dim + embedding, *widths])],
            [nn.Identity() for _ in widths],
            [nn.Identity() for _ in range(len(widths) + 1)],
            nn.Linear(widths[-1], pixels),
            Picture(self.spec.shape),
        )
        initialise(network, self)
        return network

    def discriminator(self, classes: int, kernel: int, width: int | None = None) -> Discriminator:  # noqa: ARG002
        """Two linear layers of 256, or of `width`; there is no convolution."""
        return mlp_discriminator(self.spec, (width or 256,) * 2, classes)
