"""How long a task takes: estimates from its own first steps, and steps cut to fit a limit."""

import time
from collections.abc import Callable

from dgm_core.memory import Progress, Report

REPORT_EVERY = 0.5

# Shares of a whole task; the generator dominates by design.
SHARES = {"generator": 0.80, "quality": 0.08, "solver": 0.12}


class Clock:
    """Turns steps of phases into progress of the whole task.

    Arguments:
        report: where progress goes; it may raise `Cancelled`.
        limit: seconds for the whole task, divided among the phases by `SHARES`; None: no limit.
        now: monotonic seconds.
    """

    def __init__(self, report: Report, limit: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.report, self.limit, self.now = report, limit, now
        self.started = now()
        self.last = float("-inf")

    @property
    def seconds(self) -> float:
        """Since the task started."""
        return self.now() - self.started

    def due(self) -> bool:
        """Whether it is time for another report."""
        return self.now() - self.last >= REPORT_EVERY

    def over(self, phase: str) -> bool:
        """Whether this phase and those before it have used up their share of the limit."""
        return self.limit is not None and self.seconds > self.limit * (_before(phase) + SHARES[phase])

    def tick(self, phase: str, step: int, steps: int, metrics: Callable[[], dict[str, float]] = dict) -> None:
        """Reports at the start and the end of a phase and twice a second between."""
        if step not in (0, steps) and not self.due():
            return
        self.last = self.now()
        fraction = _before(phase) + SHARES[phase] * step / max(steps, 1)
        left = self.seconds * (1 - fraction) / fraction if fraction > 0.005 else None
        self.report(Progress(phase, step, steps, fraction, left, metrics()))


def _before(phase: str) -> float:
    names = list(SHARES)
    return sum(SHARES[name] for name in names[: names.index(phase)])


def affordable_steps(wanted: int, done: int, spent: float, limit: float | None) -> int:
    """Steps of the generator that fit into its share of `limit` seconds, judged by `done` steps in `spent` seconds."""
    if limit is None:
        return wanted
    return max(done, min(wanted, int(limit * SHARES["generator"] * done / max(spent, 1e-9))))


def limit_of(*limits: float | None) -> float | None:
    """The strictest of several limits; None where none is given."""
    return min((limit for limit in limits if limit is not None), default=None)
