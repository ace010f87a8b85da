"""How training uses a device: the layout of weights, and bfloat16 where the device has instructions for it.

Parameters, optimiser and losses stay in float32, and so does everything that is committed.
"""

from contextlib import AbstractContextManager

import torch
from torch import nn

from dgm_core.precision import has_bfloat16


def placed(network: nn.Module, device: torch.device) -> None:
    """Moves a network to a device, its convolutions in the layout that is fastest there."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def autocast(device: torch.device, *, half: bool) -> AbstractContextManager[object]:
    """A context in which convolutions and linear layers compute in bfloat16, if `half` and if that is fast here."""
    return torch.autocast(device.type, torch.bfloat16, enabled=half and has_bfloat16(device))
