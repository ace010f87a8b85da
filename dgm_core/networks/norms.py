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
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    for z, c in draws if norms else ():
        generate(z, c)
    network.eval()
