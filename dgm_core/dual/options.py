"""What may be chosen about a dual memory, its generators among it: they are put in from here, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

from dgm_core.errors import CannotLearn
from dgm_core.generative.gan import GanMaker
from dgm_core.generative.model import Maker
from dgm_core.generative.vae import VaeMaker
from dgm_core.manifest import DataSpec
from dgm_core.networks import AUTOMATIC, architecture_of
from dgm_core.options import Options
from dgm_core.training.recipes import RETRAINED, RETRAINED_PAPER, Recipe
from dgm_core.training.variational import VAE, VAE_PAPER

DENSE = "dense"
PUBLISHED = "24-24"
"""The learner of the paper's Digits  [DGDMN app. B]."""
FEW_VALUES = 1024


@dataclass(frozen=True)
class DualOptions(Options):
    """Options of a dual memory.

    Arguments:
        generator: what generates, by name.
        network: name of an architecture; "auto" is dense for autoencoders of images of at most 1024 values, dcgan for
            other images and a chain of linear layers for vectors.
        width: f of the widths of the long-term generator; 0 takes the recipe's.
        short_width: f of the widths of short-term generators; 0: half of `width`.
        noise: length of z; 0 takes the recipe's.
        learner: widths of the layers of the long-term learner, such as "24-24"; empty: the network that solvers are
            made of. Those published, if nothing is said to a new memory of the recipe "paper".
        short_learner: the same of short-term learners; empty: as `learner`. Half of that, if nothing is said to a new
            memory.
        short_term: n_STM, tasks in short-term memory after which the memory sleeps  [DGDMN sec. 5.3].
        capacity: N_max, the most examples that the long-term memory is trained on; short-term ones take all there are.
        kappa: κ, the least share of them that a new task has.
    """

    generator: str = "vae"
    network: str = AUTOMATIC
    width: int = 0
    short_width: int = 0
    noise: int = 0
    learner: str = ""
    short_learner: str = ""
    short_term: int = 5
    capacity: int = 20_000
    kappa: float = 0.05

    def validate(self) -> None:
        """See `Options.validate`."""
        self.require_one_of("generator", tuple(GENERATORS))
        self.require_range("width", 0, 512)
        self.require_range("short_width", 0, 512)
        self.require_range("noise", 0, 1024)
        self.require_range("short_term", 1, 1000)
        self.require_range("capacity", 1000, 10_000_000)
        self.require_range("kappa", 0, 1)
        if self.kappa * self.short_term > 1:
            raise CannotLearn(
                "options.kappa",
                f"{self.short_term} tasks with {self.kappa} of the memory each are more than all of it; "
                "0.25 / short_term leaves room for what it holds",
            )
        for name in ("learner", "short_learner"):
            widths = getattr(self, name)
            if not all(width.isdecimal() and 1 <= int(width) <= 4096 for width in _parts(widths)):
                raise CannotLearn(
                    f"options.{name}", f"{name} is {widths!r}; it must be widths of layers, such as 24-24"
                )

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the long-term learner's layers; none: the network that solvers are made of."""
        return tuple(map(int, _parts(self.learner)))

    @property
    def short_hidden(self) -> tuple[int, ...]:
        """The same of short-term learners."""
        return tuple(map(int, _parts(self.short_learner or self.learner)))


def halved(widths: str) -> str:
    """Layers that are half as wide."""
    return "-".join(str(max(1, int(width) // 2)) for width in _parts(widths))


def _parts(widths: str) -> list[str]:
    return widths.split("-") if widths else []


@dataclass(frozen=True)
class Sort:
    """A sort of generator.

    Arguments:
        make: what makes such generators, by a memory's options and recipe and of some width.
        recipe: that of a memory as it suits such generators.
        network: what "auto" stands for.
    """

    make: Callable[[DataSpec, DualOptions, Recipe, int], Maker]
    recipe: Callable[[DualOptions, Recipe], Recipe]
    network: Callable[[DataSpec], str]


def _vae(spec: DataSpec, chosen: DualOptions, recipe: Recipe, width: int) -> Maker:
    how = replace(VAE_PAPER if chosen.recipe == "paper" else VAE, batch=recipe.batch)
    return VaeMaker(spec, how, chosen.network, width, chosen.noise)


def _quickest(spec: DataSpec) -> str:
    """Fully connected layers, which the paper has, learn small images in a fraction of the time of convolutions."""
    return DENSE if spec.is_image and prod(spec.shape) <= FEW_VALUES else AUTOMATIC


def _gan(spec: DataSpec, chosen: DualOptions, recipe: Recipe, width: int) -> Maker:
    how = replace(_game(chosen), batch=recipe.batch)
    return GanMaker(architecture_of(chosen.network, spec, chosen.noise), width, how)


def _game(chosen: DualOptions) -> Recipe:
    return RETRAINED_PAPER if chosen.recipe == "paper" else RETRAINED


GENERATORS: Mapping[str, Sort] = MappingProxyType(
    {
        "vae": Sort(_vae, lambda chosen, recipe: recipe, _quickest),  # noqa: ARG005 - it is theirs
        "gan": Sort(_gan, lambda chosen, recipe: replace(recipe, steps=_game(chosen).steps), lambda spec: AUTOMATIC),  # noqa: ARG005
    }
)
"""Name -> generators that a dual memory may consist of. GANs reconstruct nothing: learners see examples as they are."""
