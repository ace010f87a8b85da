"""Discriminators: a score per example, given its class; re-initialised for every task and discarded after it.

Two ways to use the class:
    projection   D(x, c) = w·φ(x) + v_c·φ(x)                        Miyato and Koyama 2018
    auxiliary    D(x) = w·φ(x), and logits over the task's classes  Odena et al. 2017 (AC-GAN)
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.manifest import DataSpec
from dgm_core.networks.grids import grids

SLOPE = 0.2


class HalvingConv(nn.Module):
    """Convolution with stride 2; odd sides are padded so that the grid is halved and rounded up."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=2, padding=(kernel - 1) // 2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Half the grid, rounded up."""
        if self.conv.kernel_size[0] % 2 == 0 and (x.shape[-1] % 2 or x.shape[-2] % 2):
            x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
        h: Tensor = self.conv(x)
        return h


class Discriminator(nn.Module):
    """Features φ(x), a score, and what it takes to use the class.

    Arguments:
        features: x -> φ(x) of length `width`.
        width: length of φ(x).
        classes: of this task.
    """

    def __init__(self, features: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.score = nn.Linear(width, 1)
        self.projection = nn.Embedding(classes, width)
        nn.init.normal_(self.projection.weight, std=0.1)
        self.auxiliary = nn.Linear(width, classes)

    def forward(self, x: Float[Tensor, "batch *shape"], c: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Scores that know the class by projection."""
        h = self.features(x)
        return self.score(h).squeeze(1) + (self.projection(c) * h).sum(dim=1)  # type: ignore[no-any-return]

    def judge(self, x: Float[Tensor, "batch *shape"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch classes"]]:
        """Scores that do not know the class, and logits that guess it."""
        h = self.features(x)
        return self.score(h).squeeze(1), self.auxiliary(h)


def conv_discriminator(spec: DataSpec, widths: Sequence[int], classes: int, kernel: int = 4) -> Discriminator:
    """Stride-2 convolutions without batch norm, one per width, then one vector."""
    channels, *sides = spec.shape
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([channels, *widths]):
        layers += [HalvingConv(inputs, outputs, kernel), nn.LeakyReLU(SLOPE)]
        sides = [-(-side // 2) for side in sides]
    return Discriminator(nn.Sequential(*layers, nn.Flatten()), widths[-1] * sides[0] * sides[1], classes)


def mlp_discriminator(spec: DataSpec, widths: Sequence[int], classes: int) -> Discriminator:
    """Linear layers, for feature vectors and for images as if they were such."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise([math.prod(spec.shape), *widths]):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
    return Discriminator(nn.Sequential(*layers), widths[-1], classes)


def halvings(spec: DataSpec) -> int:
    """How many stride-2 layers bring an image to the coarsest grid of its generator."""
    return len(grids(*spec.shape[1:])) - 1
