"""Batch norms: their statistics, measured anew with the weights that will be served."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Draw = tuple[Float[Tensor, "batch noise"], Int[Tensor, " batch"]]


@torch.no_grad()
def reestimate_norms(network: nn.Module, generate: Callable[[Tensor, Tensor], Tensor], draws: Iterable[Draw]) -> None:
    """Sets the running statistics to plain means over some batches; leaves the network in evaluation mode.

    Arguments:
        network: whose norms are measured.
        generate: runs it, as it will be served.
        draws: noise and class indices, batch by batch.
    """
    network.train()
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
    for z, c in draws:
        generate(z, c)
    network.eval()
