"""Less than float32, for those who ask for it, where a device is made for it."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from dgm_core.experts import NetworkExpert
from dgm_core.memory import Expert


class ReducedExpert(NetworkExpert):
    """An expert that computes in bfloat16: another one's weights and activations, rounded to eight bits.

    What it generates is float32, as ever, and close to what the other one generates from the same noise. The bytes that
    a memory promises are those of the other one. Digest and classes are the same.

    Arguments:
        expert: stays as it is.
    """

    def __init__(self, expert: Expert) -> None:
        super().__init__(_Rounded(expert.network))
        self.digest, self.classes, self.noise_dim = expert.digest, expert.classes, expert.noise_dim
        self.signature = (torch.bfloat16, expert.signature)


class _Rounded(nn.Module):
    """A network in bfloat16 between inputs and outputs in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(network).to(torch.bfloat16)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x: Tensor = self.network(z.to(torch.bfloat16), c)
        return x.float()


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16: elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch has no public name for it
    return device.type == "cpu" and probe is not None and bool(probe())
