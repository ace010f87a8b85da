"""What a kind measures of a task that it has learned: one form for all kinds, kept in manifests and told to clients."""

import math
from collections.abc import Mapping
from typing import Any, TypedDict, cast

_MOST = 2**63


class LayerUse(TypedDict):
    """What a task takes of one layer, in whatever its kind counts: gates of a mask, parameters of a style.

    Arguments:
        size: of the layer when the task was learned.
        reserved: newly reserved, or stored, by the task.
        reused: what earlier tasks brought, and this one uses.
        free: reserved by nobody after it.
    """

    size: int
    reserved: int
    reused: int
    free: int


class GatePoint(TypedDict):
    """The gates of masks at one moment of training.

    Arguments:
        slope: s of the gates; 0 once they are hard.
        occupancy: of every layer, the mean of its gates.
    """

    slope: float
    occupancy: Mapping[str, float]


class MaskPoint(GatePoint):
    """The same, and at which step of the generator's training."""

    step: int


class Sizes(TypedDict):
    """Bytes of a task's blob, by what is in them; their sum is all of it.

    Arguments:
        weights: values that later tasks may use, or that modulate what all share.
        masks: which of them it uses.
        own: what belongs to the task alone, and the header.
    """

    weights: int
    masks: int
    own: int


class Analysis(TypedDict):
    """How a task uses what its memory shares, as it was when the task was learned.

    Arguments:
        gate: what is counted in layers, in one word, such as "weight", "unit" or "style".
        order: names of the layers, input side first: JSON's objects have no order.
        layers: by name; none where there are no layers to tell of.
        trajectory: of masks while the task was trained; empty for what has none.
        parameters: of the generator that tasks share, or that the task stores.
        worst_case: the same, had nothing been shared.
        bytes: on disk.
    """

    gate: str
    order: list[str]
    layers: Mapping[str, LayerUse]
    trajectory: list[MaskPoint]
    parameters: int
    worst_case: int
    bytes: Sizes


def measured(analysis: Mapping[str, object]) -> Analysis | None:
    """What a manifest holds of an analysis; None if it is empty, for its kind measures nothing.

    Raises:
        ValueError: it has not the form of an `Analysis`; says where.
    """
    if not analysis:
        return None
    known = cast(Analysis, _formed("analysis", analysis, Analysis))
    _require(isinstance(known["gate"], str), "gate is no text")
    _count("parameters", known["parameters"])
    _count("worst_case", known["worst_case"])
    _counts("bytes", known["bytes"], Sizes)
    _require(isinstance(known["layers"], Mapping), "layers are not by name")
    for name, layer in known["layers"].items():
        _counts(f"layers[{name!r}]", layer, LayerUse)
    for key in ("order", "trajectory"):
        _require(isinstance(known[key], list), f"{key} is no list")
    _require(sorted(known["order"]) == sorted(known["layers"]), "order does not name each of the layers once")
    for index, point in enumerate(known["trajectory"]):
        _check_point(f"trajectory[{index}]", point, known["layers"])
    return known


def _check_point(where: str, point: MaskPoint, layers: Mapping[str, LayerUse]) -> None:
    _formed(where, point, MaskPoint)
    _count(f"{where}.step", point["step"])
    _require(isinstance(point["occupancy"], Mapping), f"{where}.occupancy is not by layer")
    _require(point["occupancy"].keys() == layers.keys(), f"{where}.occupancy has other layers")
    for value in (point["slope"], *point["occupancy"].values()):
        _require(type(value) in (int, float) and math.isfinite(value), f"{where} has {value!r} where a number belongs")


def _counts(where: str, value: object, form: Any) -> None:
    for key, count in _formed(where, value, form).items():
        _count(f"{where}.{key}", count)


def _count(where: str, value: object) -> None:
    _require(type(value) is int and 0 <= value < _MOST, f"{where} is {value!r}, no count")


def _formed(where: str, value: object, form: Any) -> Mapping[str, object]:
    _require(isinstance(value, Mapping), f"{where} is {type(value).__name__}, not a mapping")
    given = cast(Mapping[str, object], value)
    wanted = form.__required_keys__
    _require(given.keys() == wanted, f"{where} has {', '.join(sorted(given))}, not {', '.join(sorted(wanted))}")
    return given


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(f"what was measured of a task cannot be told: {otherwise}")
