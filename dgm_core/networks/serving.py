"""Layers as they are served: the same functions as those that are trained, formulated for speed without gradients.

At any place between four pixels of its input, a transposed convolution 4 × 4 of stride 2 writes a block of 2 × 2 pixels
that depends on those four alone:

    y[2A−1+p, 2B−1+q] = Σ_uv  x[A−1+u, B−1+v] · W[2(1−u)+p, 2(1−v)+q]         u, v, p, q ∈ {0, 1}

That is an ordinary convolution 2 × 2 with four times the outputs, whose results are put side by side (Shi et al. 2016,
"Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural network").
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.networks.doubling import interleaved


class Projection(nn.Module):
    """A transposed convolution of a 1 × 1 input: one matrix product, the channels of a pixel side by side.

    Arguments:
        layer: of stride 1 and without padding.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        _, self.outputs, *self.grid = layer.weight.shape
        by_pixel = layer.weight.detach().permute(2, 3, 1, 0)
        self.register_buffer("weight", by_pixel.flatten(0, 2).contiguous())
        self.register_buffer("bias", _bias(layer).repeat(self.grid[0] * self.grid[1]))

    def forward(self, h: Float[Tensor, "n c 1 1"]) -> Float[Tensor, "n c2 h2 w2"]:
        """One grid per row, channels last in memory."""
        pixels = F.linear(h.flatten(1), self.weight, self.bias)
        return pixels.view(-1, *self.grid, self.outputs).permute(0, 3, 1, 2)


class Doubling(nn.Module):
    """A transposed convolution 4 × 4 of stride 2 and padding 1, as a convolution of its input.

    Arguments:
        weight: of the transposed convolution.
        bias: likewise.
    """

    def __init__(self, weight: Float[Tensor, "c c2 4 4"], bias: Float[Tensor, " c2"]) -> None:
        super().__init__()
        inputs, outputs = weight.shape[:2]
        blocks = weight.detach().unflatten(3, (2, 2)).unflatten(2, (2, 2)).flip(2, 4)  # c c2 u p v q
        windows = blocks.permute(3, 5, 1, 0, 2, 4).flatten(0, 2)
        self.windows = nn.Conv2d(inputs, 4 * outputs, 2, padding=1)
        self.windows.weight = nn.Parameter(windows.contiguous())
        self.windows.bias = nn.Parameter(bias.detach().repeat(4))

    def forward(self, h: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Twice the grid, channels last in memory."""
        return interleaved(self.windows(h).permute(0, 2, 3, 1))


def served(layer: nn.Module) -> nn.Module:
    """The layer of a generator as it is served; most are served as they are."""
    if not isinstance(layer, nn.ConvTranspose2d):
        return layer
    return Projection(layer) if layer.stride == (1, 1) else Doubling(layer.weight, _bias(layer))


def enlarging(layer: nn.Conv2d) -> Doubling:
    """A convolution 3 × 3 behind a doubling by nearest neighbours, both in one: no pixel is computed on twice.

    Per axis, an input pixel reaches four pixels of the output, through weights that are sums of neighbours:
    [w_2, w_1 + w_2, w_0 + w_1, w_0].
    """
    copies = layer.weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    weight = torch.einsum("ai,bj,ocij->coab", copies, copies, layer.weight.detach())
    return Doubling(weight, _bias(layer))


def _bias(layer: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    return layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
