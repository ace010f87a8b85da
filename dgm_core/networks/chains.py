"""Chain generators: noise and a class embedding, through layers of shared weights, to one example.

    h_0 = [z, embedding(c)],   h_l = ReLU(norm_l(W_l h_{l−1})),   x = out(head(h_L))

`Dcgan` is the transposed-convolution chain of Ostapenko et al. 2019 (after Radford et al. 2015), `Mlp` its counterpart
for feature vectors.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dgm_core.networks.architecture import EMBEDDING_DIM, Architecture, Embedded, connection, initialise
from dgm_core.networks.coarsest import CoarsestGrid
from dgm_core.networks.discriminators import Discriminator, conv_discriminator, halvings, mlp_discriminator
from dgm_core.networks.doubling import DoubledGrid
from dgm_core.networks.grids import Grid, grids
from dgm_core.networks.layers import Units, fused, narrowed
from dgm_core.networks.serving import served
from dgm_core.topology import Connection, Topology


class Crop(nn.Module):
    """Cuts the rows and columns that doubling an odd grid added."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, h: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """The leading corner of the grid's size."""
        corner = h[:, :, : self.grid[0], : self.grid[1]]
        # A batch norm takes longer over a corner that lies scattered in memory; what is served has none.
        return corner.contiguous(memory_format=torch.channels_last) if self.training else corner


class Rescale(nn.Module):
    """x = h·scale + shift per feature: vectors come out in the scale of their data."""

    scale: Tensor
    shift: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("shift", torch.zeros(features))

    def set(self, scale: Float[Tensor, " f"], shift: Float[Tensor, " f"]) -> None:
        """From here on, x = h·scale + shift."""
        self.scale.copy_(scale)
        self.shift.copy_(shift)

    def forward(self, h: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """h·scale + shift."""
        return h * self.scale + self.shift


class ChainGenerator(Embedded):
    """A generator whose layers form a chain.

    Arguments:
        embedding: class index -> embedding, one row per class of the task.
        body: the layers of shared weights, without bias.
        norms: one batch norm per layer of the body.
        crops: what follows each layer of the body and, last, the head.
        head: the task's own output layer.
        out: squashes or rescales the head's output.
    """

    def __init__(
        self,
        embedding: nn.Embedding,
        body: Sequence[nn.Module],
        norms: Sequence[nn.Module],
        crops: Sequence[nn.Module],
        head: nn.Module,
        out: nn.Module,
    ) -> None:
        super().__init__()
        self.embedding, self.head, self.out = embedding, head, out
        self.body, self.norms, self.crops = nn.ModuleList(body), nn.ModuleList(norms), nn.ModuleList(crops)

    @property
    def topology(self) -> Topology:
        """One group per layer; each layer reads the group before it."""
        layers = range(len(self.body))
        body = [connection(self, f"body.{layer}", layer - 1 if layer else None, layer) for layer in layers]
        head = connection(self, "head", len(self.body) - 1, None)
        widths = tuple(c.shape[c.out_axis] for c in body)
        return Topology(tuple(f"body.{layer}" for layer in layers), widths, (*body, head))

    def forward(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples for noise z and class indices c."""
        h = torch.cat([z, self.embedding(c)], dim=1)
        if not isinstance(self.head, nn.Linear):
            h = h[:, :, None, None]
        *crops, last = self.crops
        for layer, norm, crop in zip(self.body, self.norms, crops, strict=True):
            h = torch.relu(norm(crop(layer(h))))
        output: Tensor = self.out(last(self.head(h)))
        return output

    def rescale(self, scale: Float[Tensor, " f"], shift: Float[Tensor, " f"]) -> None:
        """From here on vectors come out as x·scale + shift."""
        if isinstance(self.out, Rescale):
            self.out.set(scale, shift)

    @torch.no_grad()
    def absorb_scale(self) -> None:
        """See `Embedded.absorb_scale`."""
        if isinstance(self.out, Rescale) and isinstance(self.head, nn.Linear):
            scale, shift = self.out.scale, self.out.shift
            self.head.weight.mul_(scale[:, None])
            self.head.bias.mul_(scale).add_(shift)
            self.out.set(torch.ones_like(scale), torch.zeros_like(shift))

    @torch.no_grad()
    def folded(self) -> "ChainGenerator":
        """See `Generator.folded`."""
        return self._of([fused(*each) for each in zip(self.body, self.norms, strict=True)], self.head)

    def narrowed(self, units: Sequence[Units]) -> "ChainGenerator":
        """See `Generator.narrowed`."""
        layers = zip(self.body, [None, *units[:-1]], units, strict=True)
        return self._of([narrowed(*each) for each in layers], narrowed(self.head, units[-1], None))

    def served(self) -> "ChainGenerator":
        """See `Generator.served`."""
        return self._of([served(layer) for layer in self.body], served(self.head))

    def _of(self, body: Sequence[nn.Module], head: nn.Module) -> "ChainGenerator":
        """One of other layers, without norms."""
        identity = [nn.Identity() for _ in body]
        return ChainGenerator(self.embedding, body, identity, list(self.crops), head, self.out).eval()


class Dcgan(Architecture):
    """Transposed convolutions 4 × 4 that double the grid, from a 1 × 1 input; the last one belongs to the task."""

    def initial_std(self, connection: Connection) -> float:  # noqa: ARG002 - one for all
        """DCGAN's 0.02."""
        return 0.02

    def initial_widths(self, f: int) -> tuple[int, ...]:
        """… 4f, 2f, f towards the image."""
        return tuple(f * 2**stage for stage in reversed(range(halvings(self.spec))))

    def generator(self, widths: Sequence[int], classes: int, embedding: int = EMBEDDING_DIM) -> ChainGenerator:
        """See `Architecture.generator`."""
        channels, height, width = self.spec.shape
        sizes = grids(height, width)
        inputs = self.noise_dim + embedding
        body: list[nn.Module] = [CoarsestGrid(inputs, widths[0], sizes[0])]
        body += [DoubledGrid(a, b, bias=False) for a, b in pairwise(widths)]
        network = ChainGenerator(
            nn.Embedding(classes, embedding),
            body,
            [nn.BatchNorm2d(w) for w in widths],
            [Crop(grid) for grid in sizes],
            DoubledGrid(widths[-1], channels, bias=True),
            nn.Tanh(),
        )
        initialise(network, self)
        return network

    def discriminator(self, classes: int, kernel: int, width: int | None = None) -> Discriminator:
        """Strided convolutions of widths 32, 64, …, or of others that begin with `width`."""
        widths = tuple((width or 32) * 2**stage for stage in range(halvings(self.spec)))
        return conv_discriminator(self.spec, widths, classes, kernel)


class Mlp(Architecture):
    """Linear layers for feature vectors; the last one, scale and shift belong to the task."""

    def initial_std(self, connection: Connection) -> float:  # noqa: ARG002 - one for all
        """A little more than DCGAN's, for narrower layers."""
        return 0.05

    def initial_widths(self, f: int) -> tuple[int, ...]:
        """Two layers of 8f."""
        return (8 * f, 8 * f)

    def generator(self, widths: Sequence[int], classes: int, embedding: int = EMBEDDING_DIM) -> ChainGenerator:
        """See `Architecture.generator`."""
        (features,) = self.spec.shape
        network = ChainGenerator(
            nn.Embedding(classes, embedding),
            [nn.Linear(a, b, bias=False) for a, b in pairwise([self.noise_dim + embedding, *widths])],
            [nn.BatchNorm1d(w) for w in widths],
            [nn.Identity() for _ in range(len(widths) + 1)],
            nn.Linear(widths[-1], features),
            Rescale(features),
        )
        initialise(network, self)
        return network

    def discriminator(self, classes: int, kernel: int, width: int | None = None) -> Discriminator:  # noqa: ARG002
        """Two linear layers of 256, or of `width`; there is no convolution."""
        return mlp_discriminator(self.spec, (width or 256,) * 2, classes)
