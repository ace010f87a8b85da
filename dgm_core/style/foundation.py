"""A base as tasks stand on it: what is frozen of it, what it looks like as a style, and what wears a style.

A style is a set of tensors by name, in the three groups of sec. 4.2:

    scale/<layer>    γ or Γ
    shift/<layer>    β or B
    bias/<name>      biases, and norms where a network has them; bias/columns holds one bias per class of the task
"""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from dgm_core.manifest import DataSpec
from dgm_core.networks.architecture import Embedded
from dgm_core.networks.discriminators import Discriminator
from dgm_core.style.base import Base
from dgm_core.style.modulation import (
    Part,
    Statistics,
    critic_sites,
    generator_sites,
    modulate,
    modulations,
    normalised,
    statistics,
    whole,
)

Style = Mapping[str, Tensor]
COLUMNS = "bias/columns"
"""(classes, ...): the bias of the first layer for each class  [GANM sec. 4.2]."""


class Foundation:
    """A base for data of one shape.

    Arguments:
        base: the frozen networks.
        spec: of one example.

    Raises:
        CannotLearn: it does not fit such data.
    """

    def __init__(self, base: Base, spec: DataSpec) -> None:
        base.require_fit(spec)
        self.base, self.spec = base, spec
        network = self._network(1)
        self.sites = generator_sites(network, base.design.noise)
        self.layers = tuple(site.path for site in self.sites)
        weights = {f"{site.path}.weight" for site in self.sites}
        heads = tuple(c.name.removesuffix("weight") for c in network.topology.connections if c.writes is None)
        self.frozen = {k: t for k, t in base.generator.items() if k.startswith(heads)}
        self.vectors = {
            k: t for k, t in base.generator.items() if k not in weights | self.frozen.keys() and "embedding" not in k
        }
        self._shapes: dict[str, Tensor] = {}
        style: dict[str, Tensor] = {f"bias/{name}": t for name, t in self.vectors.items()}
        for site in self.sites:
            ours, columns = site.split(base.generator[f"{site.path}.weight"])
            mean, deviation = statistics(ours, site.axes)
            self._shapes[site.path] = normalised(ours, mean, deviation)
            style |= {f"scale/{site.path}": deviation, f"shift/{site.path}": mean}
            if columns.shape[site.reads]:
                style[COLUMNS] = columns.movedim(site.reads, 0)
        self.style: Style = style

    def generator(self, style: Style) -> Embedded:
        """A plain generator that wears a style, in evaluation mode  [GANM eq. 4] [GANM eq. 5]."""
        network = self._network(len(style[COLUMNS]))
        state = dict(self.frozen) | {name: style[f"bias/{name}"] for name in self.vectors}
        for site in self.sites:
            weight = style[f"scale/{site.path}"] * self._shapes[site.path] + style[f"shift/{site.path}"]
            if site.noise is not None:
                weight = torch.cat([weight, style[COLUMNS].movedim(0, site.reads)], dim=site.reads)
            state[f"{site.path}.weight"] = weight
        network.load_state_dict(state | {"embedding.weight": network.embedding.weight})
        return network.eval()

    def student(self, classes: int, *, part: Part = whole, normalise: bool = True, biases: bool = True) -> Embedded:
        """A generator that asks for gradients in its style alone; it starts as the base, whatever the class.

        Arguments:
            part: makes the statistics of a site.
            normalise, biases: switched off in the ablations of Fig. 3(a).
        """
        columns = self.style[COLUMNS].expand(classes, *self.style[COLUMNS].shape[1:])
        network = self.generator({**self.style, COLUMNS: columns}).train()
        modulate(network, self.sites, normalise=normalise, part=part)
        if biases:
            for name in self.vectors:
                if name in dict(network.named_parameters()):
                    network.get_parameter(name).requires_grad_(True)
        return network

    def critic(self, classes: int, *, normalise: bool = True, biases: bool = True) -> Discriminator:
        """The discriminator of a task: the base's features in a style of their own, and a last layer that is free.

        Arguments:
            normalise, biases: as for `student`.
        """
        d = self.base.critic(self.spec, classes)
        modulate(d.features, critic_sites(d.features), normalise=normalise)
        for name, p in d.features.named_parameters():
            if biases and name.endswith("bias"):
                p.requires_grad_(True)
        return d

    @torch.no_grad()
    def wear(self, network: Embedded, style: Style, weights: Mapping[str, Tensor]) -> None:
        """Has a student start from a learned style; every class from the mean of that style's classes.

        Arguments:
            weights: by which the style weighs a knowledge base, under the names of those statistics that do.
        """
        none = torch.zeros(0)
        for path, worn in modulations(network, self.sites).items():
            for name, maker in ((f"scale/{path}", worn.scale), (f"shift/{path}", worn.shift)):
                maker.begin(style[name], weights.get(name, none))
            if worn.columns is not None:
                mean = style[COLUMNS].mean(0, keepdim=True).movedim(0, worn.site.reads)
                worn.columns.copy_(mean.expand_as(worn.columns))
        state = network.state_dict()
        for name in self.vectors:
            state[name].copy_(style[f"bias/{name}"])

    @torch.no_grad()
    def read(self, network: Embedded) -> tuple[dict[str, Tensor], dict[str, Statistics]]:
        """The biases of a student, and what makes its scales and shifts, by name."""
        state = network.state_dict()
        biases = {f"bias/{name}": state[name].detach().cpu() for name in self.vectors}
        makers: dict[str, Statistics] = {}
        for path, worn in modulations(network, self.sites).items():
            makers |= {f"scale/{path}": worn.scale, f"shift/{path}": worn.shift}
            if worn.columns is not None:
                biases[COLUMNS] = worn.columns.detach().movedim(worn.site.reads, 0).cpu()
        return biases, makers

    @cached_property
    def owners(self) -> dict[str, str]:
        """Name of a bias, or of a norm's tensor -> the layer that it follows when the network runs."""
        network = self.generator(self.style)
        reached: list[str] = []
        for path, module in network.named_modules():
            if not list(module.children()):
                module.register_forward_hook(lambda *_, path=path: reached.append(path))
        with torch.no_grad():
            network(torch.zeros(1, self.base.design.noise), torch.zeros(1, dtype=torch.long))
        behind, layer = {}, self.layers[0]
        for path in reached:
            layer = path if path in self.layers else layer
            behind[path] = layer
        return {name: behind[name.rpartition(".")[0]] for name in self.vectors} | {"columns": self.layers[0]}

    def _network(self, classes: int) -> Embedded:
        with torch.random.fork_rng(devices=[]):  # its weights are about to be replaced
            return self.base.design.generator(self.spec, classes)
