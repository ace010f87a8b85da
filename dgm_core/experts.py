"""Frozen experts: a generator compiled for serving.

Compiled is a generator whose effective weights are materialised and whose norms are folded in, without the units that
nobody can see, in the formulation and the memory layout that are fastest to serve. What is sampled is what it computes.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dgm_core.blobs import pack
from dgm_core.manifest import DataSpec, Label
from dgm_core.memory import Expert
from dgm_core.networks.architecture import Generator
from dgm_core.pruning import live_units

GENERATE_BATCH = 256
ELEMENTS_AT_ONCE = GENERATE_BATCH * 3 * 64 * 64
COMPILATION = 1
"""Version of how experts are compiled; a change that may change a bit of what they generate is a new one."""


class NetworkExpert(Expert):
    """An expert that generates by its network alone; what makes one sets the other attributes of `Expert`.

    Arguments:
        network: frozen, in evaluation mode; from (z, c) to float32.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.nbytes = sum(t.numel() * t.element_size() for t in network.state_dict().values())

    @torch.inference_mode()
    def generate(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples for noise z and class indices c: images in [-1, 1], vectors in the scale of their data."""
        x: Tensor = self.network(z, c)
        return x

    def to(self, device: torch.device) -> Self:
        """The same expert, moved to a device."""
        self.network.to(device)
        return self


class FrozenExpert(NetworkExpert):
    """An expert made from a trained generator.

    Arguments:
        network: in evaluation mode, norms folded.
        classes: what it generates, in the order of its embedding.
        noise_dim: length of z.
    """

    def __init__(self, network: Generator, classes: tuple[Label, ...], noise_dim: int) -> None:
        plain = network.narrowed(live_units(network.topology, network.state_dict()))
        about = {"compilation": COMPILATION, "classes": list(classes), "noise_dim": noise_dim}
        self.digest = content_digest(plain.state_dict(), about)
        served = plain.served().eval().requires_grad_(False)
        super().__init__(served.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        self.classes, self.noise_dim = classes, noise_dim
        self.signature = (str(self.network), tuple((name, t.shape) for name, t in self.network.state_dict().items()))


def content_digest(tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> str:
    """SHA-256 over tensors and description: equal exactly when both are."""
    return hashlib.sha256(pack({name: t.cpu() for name, t in tensors.items()}, about)).hexdigest()


@torch.inference_mode()
def draw(
    expert: Expert, label: Label, n: int, spec: DataSpec, device: torch.device, generator: torch.Generator
) -> Tensor:
    """n samples of one class in their stored dtype: uint8 images, or float32 vectors.

    Arguments:
        expert: on `device`.
        generator: of the noise, on the CPU.
    """
    parts = []
    most = at_once(spec.shape, GENERATE_BATCH)
    for size in [most] * (n // most) + [n % most]:
        z = torch.randn(size, expert.noise_dim, generator=generator).to(device)
        c = torch.full((size,), expert.classes.index(label), dtype=torch.int64, device=device)
        parts.append(to_storage(expert.generate(z, c), spec))
    return torch.cat(parts)


def at_once(shape: Sequence[int], most: int) -> int:
    """Examples of a shape to put through a network together: `most`, or fewer large ones, so that activities fit."""
    return max(1, min(most, ELEMENTS_AT_ONCE // math.prod(shape)))


def to_storage(x: Float[Tensor, "batch *shape"], spec: DataSpec) -> Tensor:
    """[-1, 1] to uint8 for images; vectors stay as they are."""
    return x.clamp(-1, 1).mul(127.5).add(127.5).round().to(torch.uint8) if spec.is_image else x
