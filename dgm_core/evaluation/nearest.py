"""Which of several generators makes what looks most like some data."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dgm_core.experts import at_once, draw
from dgm_core.manifest import DataSpec
from dgm_core.memory import Expert, TaskData
from dgm_core.training.batches import to_range

_EXAMPLES = 256


@torch.no_grad()
def nearest(
    data: TaskData, experts: Mapping[str, Expert], features: nn.Module, spec: DataSpec, device: torch.device
) -> str | None:
    """The name of the nearest expert; None if there is none.

    Near is a small ‖μ − μ'‖² + ‖σ − σ'‖² between mean and deviation of each feature over 256 examples: the Fréchet
    distance of two Gaussians whose features do not correlate.

    Arguments:
        features: images in [-1, 1] -> vectors, on `device`; a frozen discriminator's will do.
    """
    source = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(data), generator=source)[:_EXAMPLES].to(data.x.device)
    wanted = _moments(data.x[rows], features)
    distances = {}
    for name, expert in experts.items():
        share = -(-_EXAMPLES // len(expert.classes))
        drawn = [draw(expert.to(device), label, share, spec, device, source) for label in expert.classes]
        found = _moments(torch.cat(drawn), features)
        distances[name] = float((wanted - found).square().sum())
    return min(distances, key=distances.__getitem__, default=None)


def _moments(x: Tensor, features: nn.Module) -> Float[Tensor, "2 f"]:
    parts = x.split(at_once(x.shape[1:], _EXAMPLES))  # activities of 256 large images would take gigabytes
    h = torch.cat([features(to_range(part)) for part in parts])
    deviation, mean = torch.std_mean(h, dim=0)
    return torch.stack([mean, deviation])
