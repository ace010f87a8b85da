"""Published checkpoints of Mescheder's GP-GAN as bases.

Such a file is a pickled dict of states: `generator`, `discriminator` and, averaged over training, `generator_test`.
With base width f, s = 4 pixels a side to begin with and a label embedding of length e, a generator holds

    fc.weight (16f·s·s, z + e)    fc.bias    embedding.weight (1, e)    conv_img.{weight (C, f, 7, 7), bias}
    resnet_<i>_0.conv_{0, 1}.{weight, bias}, and resnet_<i>_0.conv_s.weight where the width changes

and a discriminator the same blocks backwards, then fc.{weight (1, 16f·s·s), bias}. Keys may begin with `module.`.
The file is read as tensors and plain values alone: no code in it runs.
"""

import re
import warnings
from collections.abc import Mapping
from hashlib import file_digest
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.networks import architecture_of
from dgm_core.networks.gpgan import multiples
from dgm_core.networks.grids import FEWEST_STAGES, grids
from dgm_core.networks.outlines import outlined
from dgm_core.style.base import Base, Design

_KEPT = "generator_test or generator, and discriminator"
_NETWORK = "gpgan"
_GENERATORS = ("generator_test", "generator")
"""Where a generator is looked for: the average first."""
_PARALLEL = "module."


class CannotImport(ValueError):
    """This file is no checkpoint that a base can be made of; the message names the file and what is wrong with it."""


def import_base(path: Path, name: str) -> Base:
    """The base that a published checkpoint holds; width, length of z and resolution follow from its shapes.

    What the first layer reads of the single label, the label's embedding times its columns plus the layer's bias,
    becomes the column of the base's single class.

    Arguments:
        path: of the checkpoint.
        name: of the base.

    Raises:
        CannotImport: the file holds code or other objects, is truncated, or lacks a weight of the shape that is needed.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    content = _read(path)
    taken = next((part for part in _GENERATORS if part in content), _GENERATORS[-1])
    generator, critic = (_State(path.name, part, content) for part in (taken, "discriminator"))
    design = _design(generator, critic)
    spec = DataSpec(design.shape, "uint8")
    with outlined():
        g, d = design.generator(spec, 1), design.discriminator(spec, 1)
    first = _first(generator, g.get_parameter("first.weight").shape)
    _fill(g, generator, {"embedding.weight": torch.ones(1, 1), "first.weight": first})
    _fill(d.features, critic)
    _fill(d.score, critic, prefix="fc.")
    for state in (generator, critic):
        state.require_used()
    about: dict[str, Any] = {"source": path.name, "sha256": digest, "weights": taken}
    if isinstance(content.get("it"), int):
        about["steps"] = content["it"]
    try:
        return Base.of(name, design, g, d, about)
    except ValueError as error:
        raise CannotImport(f"{path.name}: {error}") from error


class _State:
    """One network of a checkpoint, its keys without the prefix that data-parallel training leaves.

    Arguments:
        file: name of the checkpoint.
        part: key of the network in it.
        content: of the checkpoint.
    """

    def __init__(self, file: str, part: str, content: Mapping[str, Any]) -> None:
        self.where = f"{file}: {part}"
        if not isinstance(content.get(part), Mapping):
            raise CannotImport(f"{self.where} is missing; such a checkpoint holds the states of {_KEPT}")
        self._tensors = {str(key).removeprefix(_PARALLEL): value for key, value in content[part].items()}
        self._used: set[str] = set()

    @property
    def blocks(self) -> int:
        """How many residual blocks it has."""
        return sum(bool(re.fullmatch(r"resnet_\d+_0\.conv_0\.weight", key)) for key in self._tensors)

    def shape(self, key: str, dimensions: int) -> tuple[int, ...]:
        """Shape of a weight of so many dimensions."""
        shape = tuple(self._tensor(key).shape)
        if len(shape) != dimensions or 0 in shape:
            raise CannotImport(f"{self.where}.{key} has shape {shape}, but {dimensions} dimensions are needed")
        return shape

    def take(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """A weight of that shape, in single precision."""
        tensor = self._tensor(key)
        if tuple(tensor.shape) != shape:
            raise CannotImport(f"{self.where}.{key} has shape {tuple(tensor.shape)}, but {shape} is needed")
        if not tensor.isfinite().all():
            raise CannotImport(f"{self.where}.{key} holds values that are infinite or no numbers")
        self._used.add(key)
        return tensor.float()

    def require_used(self) -> None:
        """Looks whether all of it was taken: else it would be another network that is imported."""
        if left := sorted(self._tensors.keys() - self._used):
            raise CannotImport(f"{self.where} holds {', '.join(left[:3])}, for which this network has no place")

    def _tensor(self, key: str) -> Tensor:
        tensor = self._tensors.get(key)
        if not isinstance(tensor, Tensor):
            raise CannotImport(f"{self.where} has no weight {key}")
        return tensor


def _read(path: Path) -> Mapping[str, Any]:
    """The content of a pickle of tensors and plain values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch did not write, and refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any type, an OSError included, where torch stumbles over what the file holds
        if type(error).__name__ == "UnpicklingError" and (found := re.search(r"GLOBAL (\S+)", str(error))):
            raise CannotImport(
                f"{path.name} holds {found[1]}, which is neither a tensor nor a plain value: reading it could run code "
                "in the file, so it is refused. If you trust it, keep only the states of its networks in a new file"
            ) from error
        raise CannotImport(f"{path.name} is truncated, or no checkpoint at all; fetch it again") from error
    if not isinstance(content, Mapping):
        raise CannotImport(f"{path.name} holds a {type(content).__name__}, not the states of {_KEPT}")
    return content


def _design(generator: _State, critic: _State) -> Design:
    """The design that a generator's shapes tell."""
    channels, f, *_ = generator.shape("conv_img.weight", 4)
    rows, inputs = generator.shape("fc.weight", 2)
    noise = inputs - generator.shape("embedding.weight", 2)[1]
    doublings = generator.blocks - 1
    if doublings < FEWEST_STAGES or noise < 1:
        raise CannotImport(
            f"{generator.where} has {generator.blocks} residual blocks and a z of length {noise}; at least "
            f"{FEWEST_STAGES + 1} and 1 are needed"
        )
    widest = multiples(doublings)[0] * f
    coarsest = isqrt(rows // widest)
    side = coarsest * 2**doublings
    try:
        spec = DataSpec((channels, side, side), "uint8")
    except CannotLearn as error:
        raise CannotImport(f"{generator.where} generates images of {channels} × {side} × {side}: {error}") from error
    stages = grids(side, side)
    if len(stages) != doublings + 1 or rows != widest * coarsest**2:
        raise CannotImport(
            f"{generator.where}.fc.weight has shape {(rows, inputs)}, but with {generator.blocks} blocks towards {f} "
            f"channels {widest * 16} rows are needed: {widest} channels of 4 × 4 pixels"
        )
    widths = architecture_of(_NETWORK, spec, noise).initial_widths(f)
    return Design(_NETWORK, spec.shape, noise, widths, kernel=0, critic=critic.shape("conv_img.weight", 4)[0])


def _first(state: _State, shape: tuple[int, ...]) -> Tensor:
    """The first layer, its bias for the single label as the last column."""
    inputs, *outputs = shape
    embedding = state.take("embedding.weight", (1, state.shape("embedding.weight", 2)[1]))
    noise, rows = inputs - 1, torch.Size(outputs).numel()
    z, label = state.take("fc.weight", (rows, noise + embedding.shape[1])).split([noise, embedding.shape[1]], dim=1)
    bias = label @ embedding[0] + state.take("fc.bias", (rows,))
    return torch.cat([z, bias[:, None]], dim=1).T.reshape(shape)


def _fill(network: nn.Module, state: _State, given: Mapping[str, Tensor] | None = None, prefix: str = "") -> None:
    """Puts the weights of a state into a network without any; those that are given come from elsewhere."""
    found = dict(given or {})
    for name, t in network.state_dict().items():
        if name not in found:
            found[name] = state.take(prefix + _published(name), tuple(t.shape))
    network.load_state_dict(found, assign=True)


def _published(name: str) -> str:
    """What the published networks call one of our weights."""
    return re.sub(r"^blocks?[._](\d+)\.", r"resnet_\1_0.", name).replace("head.", "conv_img.")
