"""Residual networks without norms (Mescheder et al. 2018, "Which training methods for GANs do actually converge?").

    h ← S·up(h) + 0.1·(W_1·a(W_0·a(up(h)) + b_0) + b_1),     x = tanh(W·a(h) + b),     a = leaky ReLU of slope 0.2

S is a 1 × 1 convolution where the width changes and the identity elsewhere. A sum that goes on unchanged from block to
block is one group of units that each of these blocks reads and writes back to. Weights are shared among tasks; biases
are not reached by masks and hence belong to a task.

At 256 × 256 and f = 64 these are the networks that GAN memory takes as its base: a first layer of 1024 × 4 × 4, seven
blocks 1024-1024-512-256-128-64-64, and six doublings between them. Smaller images have fewer doublings.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.manifest import DataSpec
from dgm_core.networks.architecture import EMBEDDING_DIM, Architecture, Embedded, connection, initialise
from dgm_core.networks.coarsest import CoarsestGrid
from dgm_core.networks.discriminators import SLOPE, Discriminator, halvings
from dgm_core.networks.grids import Grid, grids
from dgm_core.networks.layers import Units, narrowed
from dgm_core.networks.residual import Up
from dgm_core.networks.serving import enlarging, served
from dgm_core.topology import Connection, Topology

RESIDUE = 0.1
WIDEST = 16
"""The coarsest layers are so many times as wide as the finest, at most."""
DISCRIMINATOR_WIDTH = 32


class Wiring(NamedTuple):
    """The groups of units that a block reads, hides and writes; with an identity shortcut it writes what it reads."""

    reads: int
    hidden: int
    writes: int

    @property
    def identity(self) -> bool:
        """Whether the shortcut is the identity."""
        return self.reads == self.writes


def multiples(doublings: int) -> tuple[int, ...]:
    """Widths of the first layer and of the sum of each block, in widths of the last: 16, 16, 16, 8, 4, 2, 1, 1 for six.

    The discriminator goes through them in reverse.
    """
    sums = [min(WIDEST, 2 ** max(0, doublings - 1 - block)) for block in range(doublings + 1)]
    return (sums[0], *sums)


def wirings(doublings: int) -> list[Wiring]:
    """How the blocks are wired. It hangs on the design and not on the widths, which may grow to be equal by chance."""
    found, reads, groups = [], 0, 1
    for before, after in pairwise(multiples(doublings)):
        wiring = Wiring(reads, groups, reads if before == after else groups + 1)
        found.append(wiring)
        reads, groups = wiring.writes, max(wiring) + 1
    return found


class Block(nn.Module):
    """A residual block; one of the generator enlarges its input first.

    Arguments:
        inputs, hidden, outputs: widths.
        identity: the shortcut is the identity, and inputs = outputs.
        grid: size of its output; None: that of its input.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, *, identity: bool, grid: Grid | None = None) -> None:
        super().__init__()
        self.up: nn.Module = Up(grid) if grid else nn.Identity()
        self.up_0: nn.Module = Up(grid) if grid else nn.Identity()
        self.conv_0: nn.Module = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.conv_1: nn.Module = nn.Conv2d(hidden, outputs, 3, padding=1)
        self.conv_s: nn.Module = nn.Identity() if identity else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, h: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Shortcut plus a tenth of two convolutions."""
        branch = self.conv_1(_active(self.conv_0(self.up_0(_active(h)))))
        return torch.add(self.up(self.conv_s(h)), branch, alpha=RESIDUE)  # 1 × 1 and nearest neighbours commute

    def narrow(self, inputs: Units, hidden: Units, outputs: Units) -> None:
        """Leaves all other units out."""
        self.conv_0, self.conv_1 = narrowed(self.conv_0, inputs, hidden), narrowed(self.conv_1, hidden, outputs)
        if isinstance(self.conv_s, nn.Conv2d):
            self.conv_s = narrowed(self.conv_s, inputs, outputs)

    def serve(self) -> None:
        """Takes the formulation that is fastest without gradients."""
        if isinstance(self.up_0, Up) and self.up_0.exact:
            assert isinstance(self.conv_0, nn.Conv2d)
            self.up_0, self.conv_0 = nn.Identity(), enlarging(self.conv_0)


class GpganGenerator(Embedded):
    """A first layer, one block per grid, a head.

    Arguments:
        spec: of one image.
        widths: of the groups that `wirings` tells.
        classes: of the task.
        noise_dim: length of z.
        embedding: length of a class's embedding.
    """

    def __init__(self, spec: DataSpec, widths: Sequence[int], classes: int, noise_dim: int, embedding: int) -> None:
        super().__init__()
        channels, height, width = spec.shape
        first, *rest = grids(height, width)
        self.wirings = wirings(len(rest))
        self.embedding = nn.Embedding(classes, embedding)
        # A linear layer to every pixel of the coarsest grid. Its bias is what it reads of the class.
        self.first: nn.Module = CoarsestGrid(noise_dim + embedding, widths[0], first)
        self.blocks = nn.ModuleList(
            Block(*[widths[group] for group in wiring], identity=wiring.identity, grid=grid)
            for wiring, grid in zip(self.wirings, [None, *rest], strict=True)
        )
        self.head: nn.Module = nn.Conv2d(widths[self.wirings[-1].writes], channels, 7, padding=3)

    @property
    def topology(self) -> Topology:
        """Groups: the first layer, then the hidden units of each block and, where it is a new one, its sum."""
        groups = ["first"]
        found: list[Connection] = [connection(self, "first", None, 0)]
        for index, wiring in enumerate(self.wirings):
            path = f"blocks.{index}"
            groups.append(f"{path}.hidden")
            found += [
                connection(self, f"{path}.conv_0", wiring.reads, wiring.hidden),
                connection(self, f"{path}.conv_1", wiring.hidden, wiring.writes),
            ]
            if not wiring.identity:
                groups.append(f"{path}.sum")
                found.append(connection(self, f"{path}.conv_s", wiring.reads, wiring.writes))
        widths = {c.writes: c.shape[c.out_axis] for c in found}
        head = connection(self, "head", self.wirings[-1].writes, None)
        return Topology(tuple(groups), tuple(widths[group] for group in range(len(groups))), (*found, head))

    def forward(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch c h w"]:
        """Images in [-1, 1]."""
        h = self.first(torch.cat([z, self.embedding(c)], dim=1)[:, :, None, None])
        for block in self.blocks:
            h = block(h)
        return torch.tanh(self.head(_active(h)))

    def folded(self) -> "GpganGenerator":
        """See `Generator.folded`; there is no norm."""
        return deepcopy(self).eval()

    def narrowed(self, units: Sequence[Units]) -> "GpganGenerator":
        """See `Generator.narrowed`."""
        small = deepcopy(self)
        small.first = narrowed(self.first, None, units[0])
        for block, wiring in zip(small._blocks, self.wirings, strict=True):
            block.narrow(*[units[group] for group in wiring])
        small.head = narrowed(self.head, units[self.wirings[-1].writes], None)
        return small

    def served(self) -> "GpganGenerator":
        """See `Generator.served`."""
        fast = deepcopy(self)
        fast.first = served(self.first)
        for block in fast._blocks:
            block.serve()
        return fast

    @property
    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]


class Gpgan(Architecture):
    """Mescheder's residual networks; f is the width of the finest layers, 64 as published."""

    def initial_std(self, connection: Connection) -> float:
        """He et al. 2015: what comes out varies as much as what goes in, be it an activity or a plain sum."""
        if connection.reads is None or connection.name.endswith("conv_s.weight"):
            return math.sqrt(1 / connection.shape[connection.in_axis])
        return math.sqrt(2 / (1 + SLOPE**2) * connection.shape[connection.out_axis] / connection.size)

    def initial_widths(self, f: int) -> tuple[int, ...]:
        """Those of `multiples`; a block hides as many units as there are on its narrower side."""
        doublings = halvings(self.spec)
        steps = multiples(doublings)
        widths = {0: steps[0] * f}
        for wiring, (before, after) in zip(wirings(doublings), pairwise(steps), strict=True):
            widths |= {wiring.hidden: min(before, after) * f, wiring.writes: after * f}
        return tuple(widths[group] for group in range(len(widths)))

    def generator(self, widths: Sequence[int], classes: int, embedding: int = EMBEDDING_DIM) -> GpganGenerator:
        """See `Architecture.generator`."""
        network = GpganGenerator(self.spec, widths, classes, self.noise_dim, embedding)
        initialise(network, self)
        return network

    def discriminator(self, classes: int, kernel: int, width: int | None = None) -> Discriminator:  # noqa: ARG002
        """The generator backwards: a convolution 7 × 7, blocks with means over 3 × 3 pixels between them."""
        channels, *_ = self.spec.shape
        sizes = grids(*self.spec.shape[1:])
        widths = [(width or DISCRIMINATOR_WIDTH) * multiple for multiple in reversed(multiples(len(sizes) - 1))]
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv_img=nn.Conv2d(channels, widths[0], 7, padding=3))
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            if index:
                layers[f"pool_{index}"] = nn.AvgPool2d(3, stride=2, padding=1)
            layers[f"block_{index}"] = Block(inputs, min(inputs, outputs), outputs, identity=inputs == outputs)
        layers |= {"active": nn.LeakyReLU(SLOPE), "flat": nn.Flatten()}
        return Discriminator(nn.Sequential(layers), widths[-1] * math.prod(sizes[0]), classes)


def _active(h: Tensor) -> Tensor:
    return F.leaky_relu(h, SLOPE)
