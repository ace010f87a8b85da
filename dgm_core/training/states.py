"""States of what has no `state_dict` of tensors alone: optimisers and sources of randomness."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

CPU = torch.device("cpu")


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with a prefix before their names."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `under`; other tensors are left out."""
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


@torch.no_grad()
def copy_into(live: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Overwrites tensors in place, each with that of its name: layouts and references stay as they are."""
    for name, tensor in live.items():
        tensor.copy_(saved[name])


def of_optimiser(optimiser: Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of each parameter, by number; its rates belong to the recipe."""
    return {
        f"{number}/{name}": tensor
        for number, p in enumerate(_parameters(optimiser))
        for name, tensor in optimiser.state.get(p, {}).items()
    }


def resume_optimiser(optimiser: Optimizer, saved: Mapping[str, Tensor]) -> None:
    """The inverse of `of_optimiser`. Fused optimisers take moments in the memory layout of their parameters alone."""
    for number, p in enumerate(_parameters(optimiser)):
        if remembered := part(str(number), saved):
            optimiser.state[p] = {name: _like(p, tensor) for name, tensor in remembered.items()}


def of_randomness(device: torch.device) -> dict[str, Tensor]:
    """Where the default generators of the CPU and of a device stand."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def resume_randomness(device: torch.device, saved: Mapping[str, Tensor]) -> None:
    """The inverse of `of_randomness`."""
    torch.set_rng_state(saved["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(saved["cuda"], device)


def _parameters(optimiser: Optimizer) -> Iterator[nn.Parameter]:
    return (p for group in optimiser.param_groups for p in group["params"])


def _like(p: nn.Parameter, saved: Tensor) -> Tensor:
    if saved.shape != p.shape or not saved.dim():  # a count of steps
        return saved.to(p.device)
    return torch.empty_like(p, requires_grad=False).copy_(saved)
