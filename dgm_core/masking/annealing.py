"""Annealing of the gates' slope: soft gates that let everything through become steps.

s_i = 1/s_max + (s_max − 1/s_max)·(i − 1)/(I − 1)       over epochs,           global  [DGM eq. 3]
s   = 1/s_i   + (s_i − 1/s_i)·(b − 1)/(B − 1)           within one epoch,      local   [DGM eq. 4]
"""

from dataclasses import dataclass


def global_slope(i: int, epochs: int, s_max: float) -> float:
    """Largest slope of epoch i, counted from 1 to `epochs`  [DGM eq. 3]."""
    return _rise(s_max, i, epochs)


def local_slope(b: int, batches: int, s_i: float) -> float:
    """Slope of batch b, counted from 1 to `batches`, in an epoch whose largest slope is s_i  [DGM eq. 4].

    Where s_i is below 1 (the first epoch) there is nothing to rise to: the printed formula would fall from 1/s_i.
    """
    return _rise(s_i, b, batches) if s_i > 1 else s_i


def _rise(top: float, position: int, count: int) -> float:
    return 1 / top + (top - 1 / top) * (position - 1) / max(count - 1, 1)


@dataclass(frozen=True)
class Annealing:
    """Slope of the gates at every step of the annealed phase.

    Arguments:
        steps: length of the phase.
        epochs: how many epochs the phase is divided into.
        s_max: slope at its end.
        local: anneal within each epoch as well (DGMw); else over epochs alone (DGMa).
    """

    steps: int
    epochs: int
    s_max: float
    local: bool = True

    def slope(self, step: int) -> float:
        """Slope at `step`, counted from 0."""
        batches = max(1, self.steps // self.epochs)
        epoch = min(step // batches, self.epochs - 1)
        s_i = global_slope(epoch + 1, self.epochs, self.s_max)
        if not self.local:
            return s_i
        first = epoch * batches
        if epoch == self.epochs - 1:  # the last epoch takes the remainder
            batches = self.steps - first
        return local_slope(step - first + 1, batches, s_i)
