"""Style modulation: the weight of a frozen layer, with statistics of its own for every task.

mFiLM     Ŵ = γ∘(W − μ)/σ + β      per row of a linear layer                     [GANM eq. 4]
mAdaFM    Ŵ = Γ∘(W − M)/S + B      per kernel of a convolution                   [GANM eq. 5]

Both are one formula that differs in the axes over which statistics are taken, and a task that starts with Γ = S and
B = M starts as the base itself. Modulation is a parametrisation of single layers, so that it works on any network.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from dgm_core.networks.architecture import Generator
from dgm_core.networks.layers import axes as axes_of

TINY = 1e-8
"""Below this a standard deviation is that of a constant, by which nothing can be divided."""


@dataclass(frozen=True)
class Site:
    """One layer whose weight is modulated.

    Arguments:
        path: of the layer in its network.
        axes: of the weight, over which statistics are taken: the kernel, or what a row reads.
        reads: axis along which the weight reads.
        noise: inputs that are modulated, where the others are columns of classes; None: all.
    """

    path: str
    axes: tuple[int, ...]
    reads: int
    noise: int | None = None

    @property
    def kernels(self) -> bool:
        """Whether statistics are taken per kernel (mAdaFM), hence form a matrix (out, in); else per row (mFiLM)."""
        return self.reads not in self.axes

    def split(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """What is modulated, and the columns of the classes (none but in the first layer)."""
        width = weight.shape[self.reads]
        modulated = width if self.noise is None else self.noise
        ours, columns = weight.split([modulated, width - modulated], dim=self.reads)
        return ours, columns


def generator_sites(network: Generator, noise: int) -> list[Site]:
    """Every layer but the last; the first one is linear in the noise, however it is written  [GANM app. A]."""
    sites = []
    for c in network.topology.shared:
        path = c.name.removesuffix(".weight")
        first = c.reads is None
        layer = network.get_submodule(path)
        sites.append(Site(path, (c.in_axis,) if first else _axes(layer), c.in_axis, noise if first else None))
    return sites


def critic_sites(features: nn.Module) -> list[Site]:
    """Every layer of a discriminator's features: all but its last one, the score  [GANM app. A]."""
    layers = (nn.Linear, nn.Conv2d)
    return [
        Site(path, _axes(layer), axes_of(layer)[0])
        for path, layer in features.named_modules()
        if isinstance(layer, layers)
    ]


def statistics(weight: Tensor, over: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over some axes, which are kept with length 1.

    Summed in a fixed order and in double precision: the same bits on every machine.
    """
    parts = [part.double() for part in _parts(weight, over)]
    mean = _sum(parts) / len(parts)
    variance = _sum([(part - mean).square() for part in parts]) / len(parts)
    return mean.float(), variance.sqrt().clamp(min=TINY).float()


def normalised(weight: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """(W − M)/S: the shape of the kernels without their style. Done once for a base."""
    return ((weight.double() - mean.double()) / deviation.double()).float()


class Statistics(nn.Module, ABC):
    """The statistics of a site, as training makes them."""

    @abstractmethod
    def forward(self) -> Tensor:
        """The statistics."""

    @abstractmethod
    def begin(self, statistics: Tensor, weights: Tensor) -> None:
        """Has training begin with those of a learned style.

        Arguments:
            statistics: of the shape of those that `forward` gives.
            weights: (k,), by which that style weighs the first vectors of a knowledge base; k may be 0.
        """


class Whole(Statistics):
    """Statistics that are free parameters.

    Arguments:
        start: where training begins.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(start.clone())

    def forward(self) -> Tensor:
        """The statistics."""
        return self.value

    @torch.no_grad()
    def begin(self, statistics: Tensor, weights: Tensor) -> None:  # noqa: ARG002 - of no knowledge base
        """See `Statistics.begin`."""
        self.value.copy_(statistics)


Part = Callable[[str, Site, Tensor], Statistics]
"""(name such as "scale/body.1", site, start) -> what makes a matrix of statistics."""


def whole(name: str, site: Site, start: Tensor) -> Statistics:  # noqa: ARG001 - one for all
    """Every entry a parameter: the naive form of sec. 4.2."""
    return Whole(start)


class Modulation(nn.Module):
    """The parametrisation of one weight; its input is the normalised weight, frozen.

    Arguments:
        site: the layer.
        scale, shift: make Γ and B.
        columns: of the classes; None where there are none.
    """

    def __init__(self, site: Site, scale: Statistics, shift: Statistics, columns: Tensor | None) -> None:
        super().__init__()
        self.site, self.scale, self.shift = site, scale, shift
        self.columns = None if columns is None else nn.Parameter(columns.clone())

    def forward(self, original: Tensor) -> Tensor:
        """The weight in the style of the task."""
        shape, _ = self.site.split(original)
        styled: Tensor = self.scale() * shape + self.shift()
        return styled if self.columns is None else torch.cat([styled, self.columns], dim=self.site.reads)


def modulate(network: nn.Module, sites: Iterable[Site], *, normalise: bool = True, part: Part = whole) -> None:
    """Freezes a network and gives each site a style; the network is the same function as before.

    Arguments:
        network: every parameter of it stops asking for a gradient.
        sites: to be modulated.
        normalise: whether styles replace the base's (eq. 4-5) or come on top: Γ∘W + B, the ablation of Fig. 3(a).
        part: makes the statistics of a site.
    """
    network.requires_grad_(False)
    for site in sites:
        layer = network.get_submodule(site.path)
        weight = layer.get_parameter("weight")
        ours, columns = site.split(weight.detach())
        mean, deviation = statistics(ours, site.axes)
        if not normalise:
            mean, deviation = torch.zeros_like(mean), torch.ones_like(deviation)
        with torch.no_grad():
            weight.copy_(torch.cat([normalised(ours, mean, deviation), columns], dim=site.reads))
        style = Modulation(
            site,
            part(f"scale/{site.path}", site, deviation),
            part(f"shift/{site.path}", site, mean),
            columns if columns.shape[site.reads] else None,
        )
        register_parametrization(layer, "weight", style)


def modulations(network: nn.Module, sites: Iterable[Site]) -> dict[str, Modulation]:
    """The styles of a modulated network by the path of their layer."""
    return {site.path: _modulation(network.get_submodule(site.path)) for site in sites}


def _modulation(layer: nn.Module) -> Modulation:
    style = layer.parametrizations["weight"][0]  # type: ignore[index]
    assert isinstance(style, Modulation)
    return style


def _axes(layer: nn.Module) -> tuple[int, ...]:
    """The kernel of a convolution; what a row reads where there is no kernel to speak of, hence no deviation in it."""
    weight = layer.get_parameter("weight")
    kernel = tuple(range(2, weight.dim()))
    return kernel if weight[0, 0].numel() > 1 else (axes_of(layer)[0],)


def _parts(weight: Tensor, over: Sequence[int]) -> list[Tensor]:
    parts = [weight]
    for axis in over:
        parts = [slice_ for part in parts for slice_ in part.split(1, dim=axis)]
    return parts


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(parts[0])
    for part in parts:
        total = total + part
    return total
