"""Between two styles: interpolation (Fig. 3(b)), and the switches of Fig. 2  [GANM sec. 4.2].

    θ(λ) = (1 − λ)·θ₀ + λ·θ₁        scales, shifts and biases
    s(λ) = m(θ(λ)) + (1 − λ)·(s₀ − m(θ₀)) + λ·(s₁ − m(θ₁))        running statistics of norms, where there are any

A mean of two statistics s is not that of what lies between two networks, so those are measured anew: m. But what is
stored was measured otherwise, while the task was learned and over all of its classes. How far it lies from m is thus a
part of each style, which is blended like any other: s is continuous in λ, and what is stored at both ends.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from dgm_core.errors import CannotBlend
from dgm_core.manifest import Label
from dgm_core.memory import BLEND_GROUPS, Blend
from dgm_core.networks.norms import reestimate_norms
from dgm_core.style.foundation import Foundation, Style

_BATCH, _BATCHES = 128, 8
_SEED = 0
_MEAN, _VARIANCE = "running_mean", "running_var"
_FLOOR = 1e-5
"""Added to a variance before its logarithm is taken, as a norm does before it divides by the root of it."""


class Side:
    """One side of a blend.

    Arguments:
        foundation: on which it stands.
        style: with one class.
    """

    def __init__(self, foundation: Foundation, style: Style) -> None:
        self._foundation, self.style = foundation, style

    @cached_property
    def offsets(self) -> Style:
        """s − m(θ), as `_line` has it: how far the statistics that are stored lie from those that are measured."""
        measured = _measured(self._foundation, self.style)
        return {name: _line(name, self.style[name]) - _line(name, each) for name, each in measured.items()}


@torch.no_grad()
def blended(foundation: Foundation, start: Side, end: Side, blend: Blend) -> Style:
    """(1 − λ)·start + λ·end where the blend says so, `start` elsewhere.

    Running statistics of norms are measured anew, on a noise that is always the same, and their offsets are blended: λ
    is `blend.weight` if the group "bias" and the layer that the norm follows are blended, else 0.

    Raises:
        CannotBlend: a weight outside [0, 1], or a group or layer that there is not.
    """
    if not 0 <= blend.weight <= 1:
        raise CannotBlend("weight", f"{blend.weight} is not a weight; give 0 (start) to 1 (end)")
    _require("groups", blend.groups, BLEND_GROUPS)
    _require("layers", blend.layers, foundation.layers)
    moves = {name for name in start.style if _selected(name, blend, foundation)}
    mixed: dict[str, Tensor] = {}
    for name, tensor in start.style.items():
        target = end.style[name] if name in moves else tensor
        if tensor.is_floating_point():
            mixed[name] = torch.lerp(tensor, target, blend.weight)
        else:
            mixed[name] = target if blend.weight == 1 else tensor
    whole = len(moves) == len(start.style)
    if blend.weight == 0 or not moves or (blend.weight == 1 and whole):
        return mixed
    for name, measured in _measured(foundation, mixed).items():
        offset = torch.lerp(start.offsets[name], end.offsets[name], blend.weight if name in moves else 0.0)
        mixed[name] = _back(name, _line(name, measured) + offset)
    return mixed


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


def _measured(foundation: Foundation, style: Style) -> Style:
    """The running statistics of all norms under a style of one class, by their names in it."""
    names = [name for name in foundation.vectors if name.endswith((_MEAN, _VARIANCE))]
    network = foundation.generator(style)
    source = torch.Generator().manual_seed(_SEED)
    noise = foundation.base.design.noise
    c = torch.zeros(_BATCH, dtype=torch.long)
    draws = ((torch.randn(_BATCH, noise, generator=source), c) for _ in range(_BATCHES))
    reestimate_norms(network, network, draws)
    state = network.state_dict()
    return {f"bias/{name}": state[name] for name in names}


def _line(name: str, statistic: Tensor) -> Tensor:
    """A statistic on a scale on which offsets are added: a mean as it is, a variance, which stays positive, as log."""
    return statistic.double() if name.endswith(_MEAN) else (statistic.double() + _FLOOR).log()


def _back(name: str, line: Tensor) -> Tensor:
    """The statistic that lies there."""
    return (line if name.endswith(_MEAN) else (line.exp() - _FLOOR).clamp(min=0)).float()


def _require(field: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise CannotBlend(field, f"there is no {name!r} among the {field}; there are {', '.join(known)}")
