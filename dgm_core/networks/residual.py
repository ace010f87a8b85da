"""Residual generator and discriminator for small colour images (Gulrajani et al. 2017, app. F), growing and maskable.

    h ← up(h)·W_s + W_2·ReLU(norm_2(W_1·up(ReLU(norm_1(h)))))

Both W_2 and the 1 × 1 shortcut W_s write to the group of the block's sum, and both W_1 and W_s of the next block read
it. So the sum stays consistent under growth (one width) and under masks: a unit that is switched off is not read by
anybody, and a mask acts after the activation because it acts on the weights that read.
"""

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dgm_core.manifest import DataSpec
from dgm_core.networks.architecture import EMBEDDING_DIM, Architecture, Embedded, connection, initialise
from dgm_core.networks.coarsest import CoarsestGrid
from dgm_core.networks.discriminators import Discriminator
from dgm_core.networks.grids import Grid, grids
from dgm_core.networks.layers import Units, fused, narrowed
from dgm_core.networks.serving import enlarging, served
from dgm_core.topology import Connection, Topology

DISCRIMINATOR_WIDTH = 128
COARSEST = 8
"""A discriminator halves an image until no side is longer."""


class Affine(nn.Module):
    """h·scale + shift per channel: what a batch norm is in evaluation mode."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        shift = norm.bias.double() - norm.running_mean.double() * scale
        self.register_buffer("scale", scale.float()[:, None, None])
        self.register_buffer("shift", shift.float()[:, None, None])

    def forward(self, h: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """h·scale + shift."""
        return h * self.scale + self.shift

    def narrowed(self, units: Units) -> "Affine":
        """That of these channels alone."""
        small = deepcopy(self)
        small.scale, small.shift = self.scale[units], self.shift[units]
        return small


class Up(nn.Module):
    """Doubles a grid by nearest neighbours and cuts what was not asked for.

    Arguments:
        grid: size of its output.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    @property
    def exact(self) -> bool:
        """Whether nothing is cut: then its input ends where its output does."""
        return not any(side % 2 for side in self.grid)

    def forward(self, h: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Each pixel four times, but for the border that is cut."""
        return F.interpolate(h, scale_factor=2, mode="nearest")[:, :, : self.grid[0], : self.grid[1]]


class UpBlock(nn.Module):
    """A residual block that enlarges its input to the next grid.

    Arguments:
        grid: size of its output.
        inputs, hidden, outputs: widths.
    """

    def __init__(self, grid: Grid, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.norm_1: nn.Module = nn.BatchNorm2d(inputs)
        self.up = Up(grid)
        self.up_1: nn.Module = Up(grid)
        self.conv_1: nn.Module = nn.Conv2d(inputs, hidden, 3, padding=1, bias=False)
        self.norm_2: nn.Module = nn.BatchNorm2d(hidden)
        self.conv_2: nn.Module = nn.Conv2d(hidden, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Module = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, h: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Shortcut plus two convolutions."""
        branch = self.conv_1(self.up_1(torch.relu(self.norm_1(h))))
        branch = self.conv_2(torch.relu(self.norm_2(branch)))
        enlarged: Tensor = self.up(self.shortcut(h)) + branch  # a 1 × 1 convolution and nearest neighbours commute
        return enlarged

    def fold(self) -> None:
        """Replaces both norms by what they are in evaluation mode."""
        self.norm_1 = _affine(self.norm_1)
        self.conv_1, self.norm_2 = fused(self.conv_1, self.norm_2), nn.Identity()

    def narrow(self, inputs: Units, hidden: Units, outputs: Units) -> None:
        """Leaves all other units out, once it is folded."""
        assert isinstance(self.norm_1, Affine)
        self.norm_1 = self.norm_1.narrowed(inputs)
        self.conv_1, self.conv_2 = narrowed(self.conv_1, inputs, hidden), narrowed(self.conv_2, hidden, outputs)
        self.shortcut = narrowed(self.shortcut, inputs, outputs)

    def serve(self) -> None:
        """Takes the formulation that is fastest without gradients."""
        assert isinstance(self.conv_1, nn.Conv2d)
        if self.up.exact:  # a convolution that must not see what was cut cannot be exchanged with the cut
            self.up_1, self.conv_1 = nn.Identity(), enlarging(self.conv_1)


class ResidualGenerator(Embedded):
    """A first layer, one block per doubling of the grid, a head.

    Arguments:
        spec: of one image.
        widths: of the first layer, then hidden and output width of each block.
        classes: of the task.
        noise_dim: length of z.
        embedding: length of a class's embedding.
    """

    def __init__(self, spec: DataSpec, widths: Sequence[int], classes: int, noise_dim: int, embedding: int) -> None:
        super().__init__()
        channels, height, width = spec.shape
        first, *rest = grids(height, width)
        self.embedding = nn.Embedding(classes, embedding)
        self.first: nn.Module = CoarsestGrid(noise_dim + embedding, widths[0], first)
        inputs, hidden, outputs = widths[0:-1:2], widths[1::2], widths[2::2]
        self.blocks = nn.ModuleList(UpBlock(*each) for each in zip(rest, inputs, hidden, outputs, strict=True))
        self.norm: nn.Module = nn.BatchNorm2d(widths[-1])
        self.head: nn.Module = nn.Conv2d(widths[-1], channels, 3, padding=1)

    @property
    def topology(self) -> Topology:
        """Groups: the first layer, then the hidden units and the sum of each block."""
        groups = ["first"]
        found: list[Connection] = [connection(self, "first", None, 0)]
        for index in range(len(self.blocks)):
            reads, hidden, writes = 2 * index, 2 * index + 1, 2 * index + 2
            path = f"blocks.{index}"
            groups += [f"{path}.hidden", f"{path}.sum"]
            found += [
                connection(self, f"{path}.conv_1", reads, hidden),
                connection(self, f"{path}.conv_2", hidden, writes),
                connection(self, f"{path}.shortcut", reads, writes),
            ]
        head = connection(self, "head", len(groups) - 1, None)
        widths = {c.writes: c.shape[c.out_axis] for c in found}
        return Topology(tuple(groups), tuple(widths[group] for group in range(len(groups))), (*found, head))

    def forward(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch c h w"]:
        """Images in [-1, 1]."""
        h = self.first(torch.cat([z, self.embedding(c)], dim=1)[:, :, None, None])
        for block in self.blocks:
            h = block(h)
        return torch.tanh(self.head(torch.relu(self.norm(h))))

    @torch.no_grad()
    def folded(self) -> "ResidualGenerator":
        """See `Generator.folded`."""
        plain = deepcopy(self).eval()
        for block in plain._blocks:
            block.fold()
        plain.norm = _affine(plain.norm)
        return plain

    def narrowed(self, units: Sequence[Units]) -> "ResidualGenerator":
        """See `Generator.narrowed`."""
        small = deepcopy(self)
        small.first = narrowed(self.first, None, units[0])
        for block, *each in zip(small._blocks, units[0:-1:2], units[1::2], units[2::2], strict=True):
            block.narrow(*each)
        assert isinstance(self.norm, Affine)
        small.norm, small.head = self.norm.narrowed(units[-1]), narrowed(self.head, units[-1], None)
        return small

    def served(self) -> "ResidualGenerator":
        """See `Generator.served`."""
        fast = deepcopy(self)
        fast.first = served(self.first)
        for block in fast._blocks:
            block.serve()
        return fast

    @property
    def _blocks(self) -> list[UpBlock]:
        return [block for block in self.blocks if isinstance(block, UpBlock)]


class DownBlock(nn.Module):
    """A residual block of the discriminator.

    Arguments:
        inputs, outputs: widths.
        halve: average 2 × 2 pixels at the end.
        first: the input is an image: no activation before the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, halve: bool, first: bool = False) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut: nn.Module = nn.Conv2d(inputs, outputs, 1) if halve or inputs != outputs else nn.Identity()

    def forward(self, h: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Shortcut plus two convolutions."""
        branch = self.conv_2(torch.relu(self.conv_1(h if self.first else torch.relu(h))))
        if not self.halve:
            whole: Tensor = self.shortcut(h) + branch
            return whole
        halved: Tensor = self.shortcut(_pooled(h)) + _pooled(branch)
        return halved


class Residual(Architecture):
    """Gulrajani's residual networks; every group of the generator begins with 4f units."""

    def initial_std(self, connection: Connection) -> float:
        """He et al. 2015: what comes out varies as much as what goes in, however wide the layer has grown."""
        return math.sqrt(2 * connection.shape[connection.out_axis] / connection.size)

    def initial_widths(self, f: int) -> tuple[int, ...]:
        """4f for the first layer and for both groups of every block: 128 at f = 32, as published."""
        return (4 * f,) * (2 * len(grids(*self.spec.shape[1:])) - 1)

    def generator(self, widths: Sequence[int], classes: int, embedding: int = EMBEDDING_DIM) -> ResidualGenerator:
        """See `Architecture.generator`."""
        network = ResidualGenerator(self.spec, widths, classes, self.noise_dim, embedding)
        initialise(network, self)
        return network

    def discriminator(self, classes: int, kernel: int, width: int | None = None) -> Discriminator:  # noqa: ARG002
        """Blocks of width 128, or of `width`, that halve down to 8 × 8, two more, and a mean over the grid."""
        width = width or DISCRIMINATOR_WIDTH
        channels, *sides = self.spec.shape
        blocks: list[nn.Module] = []
        inputs = channels
        while max(sides) > COARSEST or not blocks:
            blocks.append(DownBlock(inputs, width, halve=True, first=not blocks))
            sides, inputs = [-(-side // 2) for side in sides], width
        blocks += [DownBlock(inputs, inputs, halve=False) for _ in range(2)]
        features = nn.Sequential(*blocks, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Discriminator(features, width, classes)


def _pooled(h: Tensor) -> Tensor:
    return F.avg_pool2d(h, 2, ceil_mode=True)


def _affine(norm: nn.Module) -> nn.Module:
    assert isinstance(norm, _BatchNorm)
    return Affine(norm)
