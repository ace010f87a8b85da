"""Recipes: everything about training that is a choice and not the method.

`fast` is the default: the best reverse accuracy per minute that was measured on two cores. `paper` is the setting of
Ostapenko et al. 2019 for 32 × 32 images.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from dgm_core.memory import CannotLearn, DataSpec
from dgm_core.networks.discriminators import (
    Discriminator,
    conv_discriminator,
    halvings,
    mlp_discriminator,
    spectrally_normalised,
)
from dgm_core.training.objectives import AuxiliaryWasserstein, HingeProjection, Objective


@dataclass(frozen=True)
class Recipe:
    """How a task is trained.

    Arguments:
        objective: makes the losses.
        discriminator: makes D for a spec and a number of classes.
        steps: training steps of G for (examples, classes).
        seconds: limit for the whole task; where it is short the schedule is run in fewer steps. None: no limit.
        width: f of the generator's widths.
        batch: examples per step.
        critic_steps: steps of D per step of G.
        lr_g, lr_d, lr_e: learning rates of the generator, the discriminator and the gates' embeddings.
        betas: of Adam.
        s_max: largest slope of the gates  [DGM eq. 3].
        reservation: λ_RU, the weight of the reservation cost  [DGM eq. 6].
        hard_at: share of the steps after which the masks are hard.
        ema: decay of the averaged weights; 0 switches averaging off.
        classifier_steps: training steps of the task solver, and of the judge of reverse accuracy, on batches of 128.
        replay: samples per class that both are trained on.
    """

    objective: Callable[[], Objective]
    discriminator: Callable[[DataSpec, int], Discriminator]
    steps: Callable[[int, int], int]
    seconds: float | None
    width: int
    batch: int = 64
    critic_steps: int = 1
    lr_g: float = 1e-3
    lr_d: float = 2e-3
    lr_e: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)
    s_max: float = 1e4
    reservation: float = 0.08
    hard_at: float = 0.6
    ema: float = 0.999
    classifier_steps: int = 300
    replay: int = 1000


def _fast_discriminator(spec: DataSpec, classes: int) -> Discriminator:
    if not spec.is_image:
        return spectrally_normalised(mlp_discriminator(spec, (256, 256), classes))
    widths = tuple(32 * 2**stage for stage in range(halvings(spec)))
    return spectrally_normalised(conv_discriminator(spec, widths, classes))


def _paper_discriminator(spec: DataSpec, classes: int) -> Discriminator:
    if not spec.is_image:
        return mlp_discriminator(spec, (256, 256), classes)
    widths = tuple(32 * 2**stage for stage in range(halvings(spec)))
    return conv_discriminator(spec, widths, classes, kernel=5)


def _fast_steps(examples: int, classes: int) -> int:
    plenty = min(3.0, max(1.0, math.sqrt(examples / 300)))  # more to learn from takes longer to exhaust
    return round((750 + 250 * min(classes, 10)) * plenty)


def _paper_steps(examples: int, classes: int) -> int:  # noqa: ARG001 - 101 epochs, whatever the classes
    return 101 * max(1, examples // 64)


FAST = Recipe(
    objective=HingeProjection,
    discriminator=_fast_discriminator,
    steps=_fast_steps,
    seconds=420.0,
    width=16,
)

PAPER = Recipe(
    objective=AuxiliaryWasserstein,
    discriminator=_paper_discriminator,
    steps=_paper_steps,
    seconds=None,
    width=6,
    lr_g=2e-3,
    lr_d=2e-3,
    lr_e=2e-3,
    betas=(0.5, 0.999),
    ema=0.0,
)

RECIPES = {"fast": FAST, "paper": PAPER}


def recipe_of(name: str) -> Recipe:
    """The recipe of that name. Raises CannotLearn with the known ones."""
    try:
        return RECIPES[name]
    except KeyError:
        raise CannotLearn(
            "options.recipe", f"there is no recipe {name!r}; the recipes are {', '.join(RECIPES)}"
        ) from None
