"""Recipes: everything about training that is a choice and not the method.

`FAST` is the default: the best reverse accuracy per minute that was measured on two cores. `PAPER` is the setting of
Ostapenko et al. 2019 for 32 × 32 images. A memory kind may vary both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from dgm_core.training.objectives import AuxiliaryWasserstein, LogisticProjection, Objective


@dataclass(frozen=True)
class Recipe:
    """How a task is trained.

    Arguments:
        objective: makes the losses.
        kernel: of D's strided convolutions.
        steps: training steps of G for (examples, classes).
        seconds: limit for the whole task; where it is short the schedule is run in fewer steps. None: no limit.
        width: f of the generator's widths.
        noise: length of z.
        half: whether convolutions may compute in bfloat16 while training, where the device has the instructions.
        batch: examples per step.
        critic_steps: steps of D per step of G.
        lr_g, lr_d: learning rates of the generator and the discriminator.
        lr_e: of what a task has for itself: the embeddings of its gates; biases and columns of its classes on a base.
        betas: of Adam.
        s_max: largest slope of the gates  [DGM eq. 3].
        epochs: that the slope rises in, at the most  [DGM eq. 3].
        reservation: λ_RU, the weight of the reservation cost  [DGM eq. 6].
        hard_at: share of the steps after which masks are hard, or low ranks fixed.
        rank_penalty: r, the weight of the nuclear norm  [GANM alg. 1].
        rank_every: steps of G from one look at singular values to the next: of large matrices it takes longer than the
            rest.
        retraining: share of `lr_g` at which a generator goes on that knows something already: its discriminator, which
            is new, would lead it astray at first.
        alignment: weight of replay alignment, on the mean squared distance of what is held  [MeRGAN sec. 4.2].
        ema: decay of the averaged weights; 0 switches averaging off.
        classifier_steps: training steps of the task solver, which judges samples as well, on batches of 128.
        replay: samples per class that both are trained on.
    """

    objective: Callable[[], Objective]
    kernel: int
    steps: Callable[[int, int], int]
    seconds: float | None
    width: int
    noise: int
    half: bool
    batch: int = 64
    critic_steps: int = 1
    lr_g: float = 2e-3
    lr_d: float = 2e-3
    lr_e: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)
    s_max: float = 1e4
    epochs: int = 20
    reservation: float = 0.08
    hard_at: float = 0.6
    rank_penalty: float = 0.002
    rank_every: int = 1
    retraining: float = 1.0
    alignment: float = 20.0
    ema: float = 0.999
    classifier_steps: int = 300
    replay: int = 1000


def _fast_steps(examples: int, classes: int) -> int:
    plenty = min(3.0, max(1.0, math.sqrt(examples / 300)))  # more to learn from takes longer to exhaust
    return round((750 + 250 * min(classes, 10)) * plenty)


def _retrained_steps(examples: int, classes: int) -> int:
    return round(1.5 * _fast_steps(examples, classes))  # what was learned before has to be learned again


def _paper_steps(examples: int, classes: int) -> int:  # noqa: ARG001 - 101 epochs, whatever the classes
    return 101 * max(1, examples // 64)


FAST = Recipe(
    objective=LogisticProjection,
    kernel=4,
    steps=_fast_steps,
    seconds=420.0,
    width=16,
    noise=64,
    half=True,
)

PAPER = Recipe(
    objective=AuxiliaryWasserstein,
    kernel=5,
    steps=_paper_steps,
    seconds=None,
    width=6,
    noise=128,
    half=True,
    lr_g=2e-3,
    lr_d=2e-3,
    lr_e=2e-3,
    betas=(0.5, 0.999),
    epochs=60,  # as many as there are of the 101 before the masks are hard
    ema=0.0,
)

BASE = replace(FAST, noise=128, width=48, lr_g=1e-3, lr_d=1e-3, seconds=None)
"""For bases: wider, trained for longer and hence at half the rates."""

STYLE = replace(FAST, lr_g=1e-3, lr_d=1e-3, lr_e=3e-3, hard_at=0.4)
"""For styles on a frozen base."""

STYLE_PAPER = replace(
    STYLE,
    objective=lambda: LogisticProjection(penalty=10.0, every=1),
    steps=lambda examples, classes: 60_000,  # noqa: ARG005 - whatever the task
    seconds=None,
    half=False,
    batch=16,
    lr_g=1e-4,
    lr_d=1e-4,
    lr_e=1e-4,
    rank_penalty=0.01,
    rank_every=10,
)
"""The setting of Cong et al. 2020 for images of 256 × 256  [GANM app. A]; every tenth step is what their code does."""


def _dual_steps(examples: int, classes: int) -> int:
    plenty = min(3.0, max(1.0, math.sqrt(examples / 300)))
    return round((1000 + 100 * min(classes, 10)) * plenty)


DUAL = replace(FAST, steps=_dual_steps, width=32, noise=32)
"""For dual memories: autoencoders take short steps, many of them, and read all of their noise."""

DUAL_PAPER = replace(
    DUAL,
    steps=lambda examples, classes: 25 * max(1, examples // 128),  # noqa: ARG005 - 25 epochs, whatever the classes
    seconds=None,
    width=64,
    batch=128,
)
"""The setting of Kamra et al. 2018, with the noise of their Digits  [DGDMN app. B]."""

RETRAINED = replace(FAST, steps=_retrained_steps, width=24, retraining=0.25)
"""For generators that are retrained for every task: wider, since they never grow."""

RETRAINED_PAPER = replace(
    PAPER,
    steps=lambda examples, classes: 4_000,  # noqa: ARG005 - whatever the task
    width=64,
    critic_steps=5,
    lr_g=1e-4,
    lr_d=1e-4,
    betas=(0.0, 0.9),
    alignment=1.0,
)
"""The setting of Wu et al. 2018 for MNIST: an alignment of 1e-3 on the sum over 32 × 32 pixels. Shin et al. 2017 have
WGAN-GP as well."""
