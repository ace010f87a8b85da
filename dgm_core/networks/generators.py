"""Chain generators: noise and a class embedding, through layers of shared weights, to one example.

    h_0 = [z, embedding(c)],   h_l = ReLU(norm_l(W_l h_{l−1})),   x = out(head(h_L))

The weights W_l (`shared_names`) belong to the memory; embedding, norms and head belong to one task. A network
knows nothing of masks: effective weights are put in from outside (`torch.func.functional_call`).

`dcgan` is the transposed-convolution chain of Ostapenko et al. 2019 (after Radford et al. 2015), `mlp` its counterpart
for feature vectors.
"""

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from math import prod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from dgm_core.memory import DataSpec
from dgm_core.networks.grids import Grid, grids

EMBEDDING_DIM = 16


class Crop(nn.Module):
    """Cuts the rows and columns that doubling an odd grid added."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, h: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """The leading corner of the grid's size."""
        return h[:, :, : self.grid[0], : self.grid[1]]


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


class ChainGenerator(nn.Module):
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
    def shared_names(self) -> tuple[str, ...]:
        """Names of the weights that belong to the memory, input side first."""
        return tuple(f"body.{layer}.weight" for layer in range(len(self.body)))

    def forward(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples for noise z and class indices c."""
        h = torch.cat([z, self.embedding(c)], dim=1)
        if isinstance(self.head, nn.ConvTranspose2d):
            h = h[:, :, None, None]
        *crops, last = self.crops
        for layer, norm, crop in zip(self.body, self.norms, crops, strict=True):
            h = torch.relu(norm(crop(layer(h))))
        output: Tensor = self.out(last(self.head(h)))
        return output

    @torch.no_grad()
    def folded(self) -> "ChainGenerator":
        """The same function in evaluation mode with every norm folded into its layer.

        Folded in double precision, so that the result does not hang on how the processor vectorises it.
        """
        norms = [norm for norm in self.norms if isinstance(norm, _BatchNorm)]
        body = [_fuse(layer, norm) for layer, norm in zip(self.body, norms, strict=True)]
        identity = [nn.Identity() for _ in body]
        return ChainGenerator(self.embedding, body, identity, list(self.crops), self.head, self.out).eval()


def _doubling(inputs: int, outputs: int, bias: bool) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=bias)


def _fuse(layer: nn.Module, norm: _BatchNorm) -> nn.Module:
    wide, norm = deepcopy(layer).double().eval(), deepcopy(norm).double().eval()
    if isinstance(wide, nn.ConvTranspose2d):
        return fuse_conv_bn_eval(wide, norm, transpose=True).float()
    assert isinstance(wide, nn.Linear)
    return fuse_linear_bn_eval(wide, norm).float()


def dcgan(spec: DataSpec, widths: Sequence[int], classes: int, noise_dim: int) -> ChainGenerator:
    """Transposed convolutions 4 × 4 that double the grid, from a 1 × 1 input; the last one belongs to the task."""
    channels, height, width = spec.shape
    sizes = grids(height, width)
    body: list[nn.Module] = [nn.ConvTranspose2d(noise_dim + EMBEDDING_DIM, widths[0], sizes[0], bias=False)]
    body += [_doubling(a, b, bias=False) for a, b in pairwise(widths)]
    head = _doubling(widths[-1], channels, bias=True)
    norms = [nn.BatchNorm2d(w) for w in widths]
    return _initialised(
        ChainGenerator(
            nn.Embedding(classes, EMBEDDING_DIM), body, norms, [Crop(grid) for grid in sizes], head, nn.Tanh()
        ),
        initial_std(spec),
    )


def mlp(spec: DataSpec, widths: Sequence[int], classes: int, noise_dim: int) -> ChainGenerator:
    """Linear layers for feature vectors; the last one, scale and shift belong to the task."""
    (features,) = spec.shape
    ends = [noise_dim + EMBEDDING_DIM, *widths]
    body = [nn.Linear(a, b, bias=False) for a, b in pairwise(ends)]
    norms = [nn.BatchNorm1d(w) for w in widths]
    crops = [nn.Identity() for _ in range(len(body) + 1)]
    embedding = nn.Embedding(classes, EMBEDDING_DIM)
    return _initialised(
        ChainGenerator(embedding, body, norms, crops, nn.Linear(widths[-1], features), Rescale(features)),
        initial_std(spec),
    )


def chain_generator(spec: DataSpec, widths: Sequence[int], classes: int, noise_dim: int) -> ChainGenerator:
    """The chain that suits the data: `dcgan` for images, `mlp` for vectors."""
    return (dcgan if spec.is_image else mlp)(spec, widths, classes, noise_dim)


def initial_widths(spec: DataSpec, f: int) -> tuple[int, ...]:
    """Widths before the first task: … 4f, 2f, f towards the image; two layers of 8f for vectors."""
    if not spec.is_image:
        return (8 * f, 8 * f)
    stages = len(grids(*spec.shape[1:])) - 1
    return tuple(f * 2**stage for stage in reversed(range(stages)))


def layer_sizes(spec: DataSpec, widths: Sequence[int], noise_dim: int) -> list[int]:
    """Number of shared weights per layer for given widths."""
    return [prod(shape) for shape in weight_shapes(spec, widths, noise_dim).values()]


def weight_shapes(spec: DataSpec, widths: Sequence[int], noise_dim: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the shared weights for given widths, by name; nothing is allocated."""
    with torch.device("meta"):
        network = chain_generator(spec, widths, 1, noise_dim)
    named: dict[str, Any] = dict(network.named_parameters())
    return {name: tuple(named[name].shape) for name in network.shared_names}


def initial_std(spec: DataSpec) -> float:
    """Standard deviation of fresh weights: DCGAN's for images, a little more for the narrower layers of vectors."""
    return 0.02 if spec.is_image else 0.05


def _initialised(network: ChainGenerator, std: float) -> ChainGenerator:
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
