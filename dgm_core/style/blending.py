"""Between two styles: interpolation (Fig. 3(b)), and the switches of Fig. 2  [GANM sec. 4.2]."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dgm_core.errors import CannotBlend
from dgm_core.manifest import Label
from dgm_core.memory import BLEND_GROUPS, Blend
from dgm_core.networks.architecture import Generator
from dgm_core.networks.norms import reestimate_norms
from dgm_core.style.foundation import Foundation, Style

_BATCH, _BATCHES = 128, 8
_SEED = 0


@torch.no_grad()
def blended(foundation: Foundation, start: Style, end: Style, blend: Blend) -> Style:
    """(1 − λ)·start + λ·end where the blend says so, `start` elsewhere; both with one class.

    Running statistics of norms, where a network has them, belong to neither and are measured anew on a fixed noise.

    Raises:
        CannotBlend: a weight outside [0, 1], or a group or layer that there is not.
    """
    if not 0 <= blend.weight <= 1:
        raise CannotBlend("weight", f"{blend.weight} is not a weight; give 0 (start) to 1 (end)")
    _require("groups", blend.groups, BLEND_GROUPS)
    _require("layers", blend.layers, foundation.layers)
    moves = {name for name in start if _selected(name, blend, foundation)}
    mixed: dict[str, Tensor] = {}
    for name, tensor in start.items():
        target = end[name] if name in moves else tensor
        if tensor.is_floating_point():
            mixed[name] = torch.lerp(tensor, target, blend.weight)
        else:
            mixed[name] = target if blend.weight == 1 else tensor
    whole = len(moves) == len(start)
    if blend.weight == 0 or not moves or (blend.weight == 1 and whole):
        return mixed
    network = foundation.generator(mixed)
    _measure(network, foundation)
    state = network.state_dict()
    return {**mixed, **{f"bias/{name}": state[name] for name in foundation.vectors}}


def chosen_class(label: Label | None, classes: Sequence[Label]) -> Label:
    """The class that was asked for, or the first. Raises CannotBlend."""
    if label is None:
        return classes[0]
    if label not in classes:
        raise CannotBlend("classes", f"the task has no class {label!r}; it has {', '.join(map(repr, classes))}")
    return label


def _selected(name: str, blend: Blend, foundation: Foundation) -> bool:
    group, _, path = name.partition("/")
    if blend.groups and group not in blend.groups:
        return False
    layer = foundation.owners[path] if group == "bias" else path
    return not blend.layers or layer in blend.layers


def _measure(network: Generator, foundation: Foundation) -> None:
    source = torch.Generator().manual_seed(_SEED)
    noise = foundation.base.design.noise
    c = torch.zeros(_BATCH, dtype=torch.long)
    draws = ((torch.randn(_BATCH, noise, generator=source), c) for _ in range(_BATCHES))
    reestimate_norms(network, network, draws)


def _require(field: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise CannotBlend(field, f"there is no {name!r} among the {field}; there are {', '.join(known)}")
