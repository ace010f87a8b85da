"""What is done to single layers on the way to an expert: fold a norm in, leave units out."""

from copy import deepcopy

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

Units = Int[Tensor, " _"]
"""Indices of units of a group."""


def fused(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """A layer with the norm behind it folded in, in double precision; as it is where there is none."""
    if isinstance(norm, nn.Identity):
        return deepcopy(layer)
    assert isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
    assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    weight, bias = layer.weight.detach().double(), None if layer.bias is None else layer.bias.detach().double()
    mean, var = norm.running_mean.double(), norm.running_var.double()
    scale, shift = norm.weight.detach().double(), norm.bias.detach().double()
    if isinstance(layer, nn.Linear):
        made = fuse_linear_bn_weights(weight, bias, mean, var, norm.eps, scale, shift)
    else:
        transposed = isinstance(layer, nn.ConvTranspose2d)
        made = fuse_conv_bn_weights(weight, bias, mean, var, norm.eps, scale, shift, transposed)
    found = deepcopy(layer).eval()
    found.weight, found.bias = (nn.Parameter(t.detach().float()) for t in made)
    return found


def axes(layer: nn.Module) -> tuple[int, int]:
    """Where the units that a layer reads and writes lie in the shape of its weight."""
    return (0, 1) if isinstance(layer, nn.ConvTranspose2d) else (1, 0)


@torch.no_grad()
def narrowed(layer: nn.Module, reads: Units | None, writes: Units | None) -> nn.Module:
    """A layer that reads and writes these units alone; None stands for all."""
    assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    small = deepcopy(layer)
    for axis, units in zip(axes(layer), (reads, writes), strict=True):
        if units is not None:
            small.weight = nn.Parameter(small.weight.index_select(axis, units))
    if writes is not None and layer.bias is not None:
        small.bias = nn.Parameter(layer.bias[writes])
    inputs, outputs = (small.weight.shape[axis] for axis in axes(layer))
    if isinstance(small, nn.Linear):
        small.in_features, small.out_features = inputs, outputs
    else:
        small.in_channels, small.out_channels = inputs, outputs
    return small
