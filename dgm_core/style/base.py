"""A base: a generator and a discriminator, trained once on public data and frozen, that every task modulates.

The file is a blob like any other, named by the hash of its bytes. Weights are kept in half precision and computed with
in single precision, so that a base is the same numbers wherever it is loaded. Its generator has a single class: the
column that its first layer reads for it is the bias b of that layer, from which the biases of a task's classes start.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from dgm_core.blobs import digest as digest_of
from dgm_core.blobs import pack, unpack
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

    @cached_property
    def blob(self) -> bytes:
        """Its file."""
        parts = {"generator": self.generator, "features": self.features, "score": self.score}
        tensors = {f"{part}/{name}": _half(t) for part, state in parts.items() for name, t in state.items()}
        about = {"format": _FORMAT, "name": self.name, "design": asdict(self.design), "trained": dict(self.trained)}
        return pack(tensors, about)

    @property
    def digest(self) -> str:
        """Its name in a store: SHA-256 of its file."""
        return digest_of(self.blob)

    @property
    def parameters(self) -> int:
        """Weights of the generator."""
        return sum(t.numel() for t in self.generator.values() if t.is_floating_point())

    @classmethod
    def unpack(cls, blob: bytes) -> Self:
        """The inverse of `blob`. Raises ValueError for a file that is no base, or is truncated."""
        tensors, about = unpack(blob)
        if about.get("format") != _FORMAT or "design" not in about:
            raise ValueError(f"this is no base of format {_FORMAT}, but {about.get('format', 'something else')}")
        raw = about["design"]
        design = Design(**{**raw, "shape": tuple(raw["shape"]), "widths": tuple(raw["widths"])})
        parts: dict[str, dict[str, Tensor]] = {"generator": {}, "features": {}, "score": {}}
        for path, t in tensors.items():
            part, _, name = path.partition("/")
            parts[part][name] = t.float() if t.is_floating_point() else t
        return cls(about["name"], design, trained=about["trained"], **parts)

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
        for part, state in (("generator", self.generator), ("features", self.features), ("score", self.score)):
            for name, t in state.items():
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
        design = self.design
        says = (
            f"the base {self.name} ({self.digest[:12]}) generates images of shape {design.shape} through a "
            f"{design.network} network"
        )
        if not spec.is_image or spec.shape[0] != design.shape[0]:
            raise CannotLearn("options.base", f"{says}; it does not fit x of shape {spec.shape}: {_ADVICE}")
        with outlined():
            g, d = design.generator(spec, 1), design.discriminator(spec, 1)
        for part, module, state in (
            ("generator", g, self.generator),
            ("discriminator", d.features, self.features),
            ("score", d.score, self.score),
        ):
            for name, t in module.state_dict().items():
                if name not in state or state[name].shape != t.shape:
                    found = "nothing" if name not in state else str(tuple(state[name].shape))
                    raise CannotLearn(
                        "options.base",
                        f"{says}; for x of shape {spec.shape} its {part} would need {name} of shape "
                        f"{tuple(t.shape)}, and there is {found}: {_ADVICE}",
                    )


_ADVICE = "resize the images, or train a base of their shape (memory-server base train)"


def _half(t: Tensor) -> Tensor:
    """Weights in half precision; counters and statistics (vectors) as they are: they are few and range widely."""
    return t.half() if t.is_floating_point() and t.dim() > 1 else t


def _rounded(t: Tensor) -> Tensor:
    return _half(t).to(t.dtype)
