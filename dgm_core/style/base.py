"""A base: a generator and a discriminator, trained once on public data and frozen, that every task modulates.

In a store it is a blob like any other, named by the hash of its bytes; in a library, where files bear other names, the
file also holds that hash. Weights are kept in half precision and computed with in single precision, so that a base is
the same numbers wherever it is loaded. Its generator has a single class: the column that its first layer reads for it
is the bias b of that layer, from which the biases of a task's classes start.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from dgm_core.blobs import digest as digest_of
from dgm_core.blobs import pack, sealed, unpack
from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.networks import architecture_of
from dgm_core.networks.architecture import Architecture, Embedded
from dgm_core.networks.discriminators import Discriminator
from dgm_core.networks.outlines import outlined

_FORMAT = 1


@dataclass(frozen=True)
class Design:
    """What it takes to build the networks of a base.

    Arguments:
        network: name of the architecture.
        shape: (C, H, W) of the images that it was trained on.
        noise: length of z.
        widths: of the generator's groups.
        kernel: of the discriminator's strided convolutions.
        critic: width of the discriminator's first layer.
    """

    network: str
    shape: tuple[int, ...]
    noise: int
    widths: tuple[int, ...]
    kernel: int
    critic: int

    def architecture(self, spec: DataSpec) -> Architecture:
        """Its family of networks for such data."""
        return architecture_of(self.network, spec, self.noise)

    def generator(self, spec: DataSpec, classes: int) -> Embedded:
        """A generator whose first layer reads one column per class: its bias for that class  [GANM sec. 4.2]."""
        network = self.architecture(spec).generator(self.widths, classes, embedding=classes)
        with torch.no_grad():
            network.embedding.weight.zero_().fill_diagonal_(1)
        network.embedding.requires_grad_(False)
        return network

    def discriminator(self, spec: DataSpec, classes: int) -> Discriminator:
        """A discriminator of its width."""
        return self.architecture(spec).discriminator(classes, self.kernel, self.critic)

    def takes(self, spec: DataSpec) -> bool:
        """Whether such data are images of its channels."""
        return spec.is_image and spec.shape[0] == self.shape[0]

    def weights(self, spec: DataSpec) -> dict[tuple[str, str], tuple[int, ...]]:
        """Part of a base and name of a weight -> the shape that it has in networks for such data."""
        with outlined():
            g, d = self.generator(spec, 1), self.discriminator(spec, 1)
        parts = {"generator": g, "features": d.features, "score": d.score}
        return {
            (part, name): tuple(t.shape) for part, network in parts.items() for name, t in network.state_dict().items()
        }

    def fits(self, spec: DataSpec) -> bool:
        """Whether weights that were trained on images of its shape can generate such data."""
        if not self.takes(spec):
            return False
        try:
            return self.weights(spec).items() <= self.weights(DataSpec(self.shape, "uint8")).items()
        except CannotLearn:  # its networks do not come in that size
            return False


@dataclass(frozen=True)
class Base:
    """A frozen base.

    Arguments:
        name: for people.
        design: of its networks.
        generator: state of `design.generator(spec, classes=1)`.
        features: state of the discriminator's features.
        score: weight and bias of the layer that turns features into a score.
        trained: how it came about: data, steps, seed and whatever else is worth knowing, in JSON's types.
    """

    name: str
    design: Design
    generator: Mapping[str, Tensor]
    features: Mapping[str, Tensor]
    score: Mapping[str, Tensor]
    trained: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> dict[tuple[str, str], Tensor]:
        """Part and name of a weight -> the weight."""
        parts = {"generator": self.generator, "features": self.features, "score": self.score}
        return {(part, name): t for part, state in parts.items() for name, t in state.items()}

    @cached_property
    def blob(self) -> bytes:
        """Its bytes in a store."""
        tensors = {f"{part}/{name}": _half(t) for (part, name), t in self.weights.items()}
        about = {"format": _FORMAT, "name": self.name, "design": asdict(self.design), "trained": dict(self.trained)}
        return pack(tensors, about)

    @property
    def digest(self) -> str:
        """Its name in a store: SHA-256 of weights and description, its name and how it came about included."""
        return digest_of(self.blob)

    @property
    def file(self) -> bytes:
        """Its bytes in a library, which also hold its digest."""
        return sealed(self.blob)

    @property
    def parameters(self) -> int:
        """Weights of the generator."""
        return sum(t.numel() for t in self.generator.values() if t.is_floating_point())

    @classmethod
    def unpack(cls, blob: bytes) -> Self:
        """The inverse of `blob`.

        Raises:
            ValueError: the bytes are no base, or are truncated, or hold weights that are no numbers.
        """
        tensors, about = unpack(blob)
        if about.get("format") != _FORMAT:
            raise ValueError(f"this is no base of format {_FORMAT}, but {about.get('format', 'something else')}")
        parts: dict[str, dict[str, Tensor]] = {"generator": {}, "features": {}, "score": {}}
        try:
            raw = about["design"]
            design = Design(**{**raw, "shape": tuple(raw["shape"]), "widths": tuple(raw["widths"])})
            for path, t in tensors.items():
                part, _, name = path.partition("/")
                parts[part][name] = t.float() if t.is_floating_point() else t
            base = cls(str(about["name"]), design, trained=dict(about["trained"]), **parts)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError("its description, or the names of its weights, are not those of a base") from error
        base.require_numbers()
        return base

    @classmethod
    def of(
        cls, name: str, design: Design, generator: nn.Module, discriminator: Discriminator, trained: Mapping[str, Any]
    ) -> Self:
        """The base that two trained networks make, as it will be when it is read from its file.

        Raises:
            ValueError: a weight is infinite or no number, or would be in half precision.
        """
        parts = (generator.state_dict(), discriminator.features.state_dict(), discriminator.score.state_dict())
        generator_state, features, score = ({k: _rounded(t.cpu()) for k, t in part.items()} for part in parts)
        base = cls(name, design, generator_state, features, score, trained)
        base.require_numbers()
        return base

    def require_numbers(self) -> None:
        """Looks whether its weights can be computed with. Raises ValueError."""
        for (part, name), t in self.weights.items():
            if not t.isfinite().all():
                raise ValueError(f"{part}/{name} holds values that are no numbers, or too large for half precision")

    def critic(self, spec: DataSpec, classes: int) -> Discriminator:
        """The discriminator as it was left, for a task of so many classes.

        It judges them all alike: a class that it preferred by chance would mislead the generator.
        """
        d = self.design.discriminator(spec, classes)
        d.features.load_state_dict(self.features)
        d.score.load_state_dict(self.score)
        nn.init.zeros_(d.projection.weight)
        return d

    def require_fit(self, spec: DataSpec) -> None:
        """Looks whether its networks can generate such data. Raises CannotLearn, which names both sides."""
        if why := self.misfit(spec):
            raise CannotLearn(
                "options.base",
                f"the base {self.name} ({self.digest[:12]}) generates images of shape {self.design.shape} through a "
                f"{self.design.network} network; {why}: {_ADVICE}",
            )

    def misfit(self, spec: DataSpec) -> str:
        """What keeps its networks from generating such data; empty if nothing does."""
        if not self.design.takes(spec):
            return f"it does not fit x of shape {spec.shape}"
        held = {key: tuple(t.shape) for key, t in self.weights.items()}
        for key, shape in self.design.weights(spec).items():
            if held.get(key) != shape:
                needs = f"for x of shape {spec.shape} it would need {'/'.join(key)} of shape {shape}"
                return f"{needs}, and there is {held.get(key, 'nothing')}"
        return ""


_ADVICE = "resize the images, or train a base of their shape (memory-server base train)"


def _half(t: Tensor) -> Tensor:
    """Weights in half precision; counters and statistics (vectors) as they are: they are few and range widely."""
    return t.half() if t.is_floating_point() and t.dim() > 1 else t


def _rounded(t: Tensor) -> Tensor:
    return _half(t).to(t.dtype)
