"""What the paper chose for each of its sequences of tasks  [DGDMN app. B]."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Setting:
    """One sequence of tasks.

    Arguments:
        full: training images of each task in the paper; MNIST has 5421 to 6742 of a digit.
        reduced: training images of each task by default here, so that all of it fits on two cores.
        labels: of the single head.
        hidden: units of both hidden layers of the learner.
        latent: length of z of the long-term memory.
        share: N_max over the training images of all tasks: how much a long-term memory can rehearse.
        nap: n_STM, the tasks that short-term memory holds.
        kappa: κ, the least share of N_max that a new task gets.
    """

    full: int
    reduced: int
    labels: int
    hidden: int
    latent: int
    share: float
    nap: int
    kappa: float


SETTINGS = MappingProxyType(
    {
        "permnist": Setting(30_000, 5000, 10, 48, 64, 1.0, 2, 0.0),
        "digits": Setting(7000, 2000, 10, 24, 32, 1.0, 2, 0.0),
        "tdigits": Setting(7000, 1000, 40, 36, 96, 0.5, 5, 0.05),
    }
)

EWC, JOINT, DGR, DGDMN = "EWC", "joint", "DGR", "DGDMN"
"""Methods that are named more than once."""

SEQUENTIAL_EPOCHS, JOINT_EPOCHS = 6, 20
"""Of classifiers: one task after another, and all at once."""
DROPOUT = 0.2
FISHER_WEIGHT = 100.0
REHEARSED = 6
"""What pseudopattern rehearsal may hold, in tasks: the paper's rule; the two numbers it gives beside it are smaller."""
