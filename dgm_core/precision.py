"""Less than float32, for those who ask for it, where a device is made for it."""

from copy import deepcopy
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dgm_core.memory import Expert


class ReducedExpert(Expert):
    """An expert that computes in bfloat16: another one's weights and activations, rounded to eight bits.

    What it generates is float32, as ever, and close to what the other one generates from the same noise. The bytes that
    a memory promises are those of the other one. Digest and classes are the same.

    Arguments:
        expert: stays as it is.
    """

    def __init__(self, expert: Expert) -> None:
        self.digest, self.classes, self.noise_dim = expert.digest, expert.classes, expert.noise_dim
        self.network = _Rounded(expert.network)
        self.signature = (torch.bfloat16, expert.signature)
        self.nbytes = sum(t.numel() * t.element_size() for t in self.network.state_dict().values())

    @torch.inference_mode()
    def generate(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """See `Expert.generate`."""
        x: Tensor = self.network(z, c)
        return x

    def to(self, device: torch.device) -> Self:
        """The same expert, moved to a device."""
        self.network.to(device)
        return self


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
