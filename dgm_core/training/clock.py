"""How long a task takes: estimates from its own first steps, and a schedule that fits a limit."""

import time
from collections.abc import Callable, Mapping

from dgm_core.memory import Progress, Report

REPORT_EVERY = 0.5

# From here on the time that has passed tells more than the first steps did.
TRUSTED_FRACTION = 0.1

FEWEST_STEPS = 20
"""Of a schedule that is walked through in a hurry."""

# Shares of a whole task; the generator dominates by design.
SHARES = {"generator": 0.85, "solver": 0.15}


class Clock:
    """Turns steps of phases into progress of the whole task.

    Arguments:
        report: where progress goes; it may raise `Cancelled`.
        limit: seconds for the whole task, divided among the phases by their shares; None: no limit.
        shares: of the phases, in their order; they add up to 1.
        now: monotonic seconds.
    """

    def __init__(
        self,
        report: Report,
        limit: float | None = None,
        shares: Mapping[str, float] = SHARES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.report, self.limit, self.shares, self.now = report, limit, shares, now
        self.started = now()
        self.last = float("-inf")
        self.expected: float | None = None
        self.resumed_from = 0
        self._began: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Since the task started."""
        return self.now() - self.started

    def resume(self, seconds: float, expected: float | None, step: int) -> None:
        """Counts the seconds of an earlier attempt in, which had come as far as that step of the generator."""
        self.started -= seconds
        self.expected, self.resumed_from = expected, step

    def due(self) -> bool:
        """Whether it is time for another report."""
        return self.now() - self.last >= REPORT_EVERY

    def tick(self, phase: str, step: int, steps: int, metrics: Mapping[str, float] | None = None) -> None:
        """Reports at the start and the end of a phase and twice a second between.

        Arguments:
            phase: one of `shares`.
            step, steps: where it stands.
            metrics: losses and the like.

        Raises:
            Cancelled: as raised by `report`.
        """
        if step not in (0, steps) and not self.due():
            return
        self.last = self.now()
        fraction = self._before(phase) + self.shares[phase] * step / max(steps, 1)
        left = self._left(fraction)
        self.report(Progress(phase, step, steps, fraction, left, metrics or {}, self.resumed_from))

    def position(self, phase: str, taken: int, steps: int) -> int:
        """Where a phase's schedule of `steps` stands: steps taken, or the share of its time used up, if further.

        So a slow machine walks through the whole schedule in fewer steps, and a short hiccup costs no more than itself.
        The first phase's time is counted from the beginning of the task, that of others from when this is first asked;
        it ends when all phases so far have had their shares of the limit.
        """
        if self.limit is None:
            return taken
        before = self._before(phase)
        began = self._began.setdefault(phase, self.seconds if before else 0.0)
        left = self.limit * (before + self.shares[phase]) - began
        return max(taken, int(steps * min(1.0, (self.seconds - began) / left)) if left > 0 else steps)

    def pace(self, phase: str, steps: int) -> Callable[[int], int]:
        """Asked before every step with how many were taken: where the schedule stands, which it reports.

        That is its `position`, but so that at least `FEWEST_STEPS` are taken, evenly over all of it, however late.
        """

        def at(taken: int) -> int:
            where = self.position(phase, taken, steps)
            if taken < FEWEST_STEPS:
                where = max(taken, min(where, taken * steps // FEWEST_STEPS))
            self.tick(phase, where, steps)
            return where

        return at

    def expect(self, generator: float) -> None:
        """Takes an estimate for the whole task from that for the generator's phase, in seconds."""
        whole = generator / self.shares["generator"]
        self.expected = whole if self.limit is None else min(whole, self.limit)

    def _left(self, fraction: float) -> float | None:
        if fraction >= TRUSTED_FRACTION:
            return self.seconds * (1 - fraction) / fraction
        return None if self.expected is None else max(0.0, self.expected - self.seconds)

    def _before(self, phase: str) -> float:
        names = list(self.shares)
        if phase not in names:
            raise ValueError(
                f"this clock has no phase {phase!r}; those that it shares time among are {', '.join(names)}"
            )
        return sum((self.shares[name] for name in names[: names.index(phase)]), 0.0)


def limit_of(*limits: float | None) -> float | None:
    """The strictest of several limits; None where none is given."""
    return min((limit for limit in limits if limit is not None), default=None)
