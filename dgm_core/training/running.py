"""One training from its first step to its last: a schedule, reports, checkpoints, an average of what was learned.

What a step does is its own affair: a game of two networks, or the descent of one.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dgm_core.analysis import MaskPoint
from dgm_core.checkpoints import Checkpoints, State
from dgm_core.errors import TrainingDiverged
from dgm_core.training.averaging import Average
from dgm_core.training.batches import Batches
from dgm_core.training.clock import Clock
from dgm_core.training.states import copy_into, of_randomness, part, resume_randomness, under
from dgm_core.training.trainees import PROBE_STEPS, Trainee

MOST_POINTS = 60
NORM_BATCHES, FEWEST_NORM_BATCHES = 40, 4
NORM_SHARE = 0.05
"""Of a limit, which more than the fewest batches may take."""

FEWEST_PROBES = 2
"""Steps that are taken however short the limit: the first one does more than the others."""


@dataclass
class Trained:
    """What is known of a generator's training.

    Arguments:
        steps: that were taken; 0: it was fitted at once.
        trajectory: of the gates, if it has such, at most about `MOST_POINTS`: step, slope (0 once hard), mean of the
            gates per layer.
    """

    steps: int = 0
    trajectory: list[MaskPoint] = field(default_factory=list)


@runtime_checkable
class Step(Protocol):
    """One step of a training.

    Attributes:
        g: what is trained.
        losses: of the last step, detached and still on the device.
    """

    g: Trainee
    losses: dict[str, Tensor]

    def __call__(self, batches: Batches) -> None:
        """Takes one step."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that training changes but the optimisers, live: what is copied into them takes effect."""
        ...

    def remembered(self) -> dict[str, Tensor]:
        """What the optimisers remember."""
        ...

    def resume(self, state: State, taken: int) -> None:
        """Goes on from a state, after so many steps."""
        ...


class Run:
    """The steps of one training.

    Arguments:
        step: what is done, again and again.
        batches: what it draws from.
        wanted: steps to take; a clock whose limit is too short for them walks through the same schedule in fewer.
        ema: decay of the averaged weights; 0 switches averaging off.
        clock: limits and reports.
        checkpoints: where the state is put down; what is found there is gone on from.
    """

    def __init__(
        self, step: Step, batches: Batches, wanted: int, ema: float, clock: Clock, checkpoints: Checkpoints
    ) -> None:
        self.step, self.batches, self.wanted, self.clock = step, batches, wanted, clock
        self.ema, self.checkpoints = ema, checkpoints
        self.trained = Trained()
        self.average: Average | None = None
        self.next_point = 0

    def whole(self) -> None:
        """All of it, from the first step or from where an earlier attempt was broken off, to the last.

        Raises:
            TrainingDiverged: a loss became NaN or infinite.
            Cancelled: as raised by the clock's reports, or by the checkpoints.
        """
        if (state := self.checkpoints.found()) is not None:
            self.resume(state)
        else:
            self.warm_up()
        self.go_on()
        self.finish()

    def warm_up(self) -> None:
        """The first steps, which also tell how long the rest will take; fewer where the clock's limit is short."""
        self.clock.tick("generator", 0, self.wanted)
        self._record(0)
        probe = min(PROBE_STEPS, self.wanted)
        since, before = self._now(), 0
        while (taken := self.trained.steps) < min(FEWEST_PROBES, probe) or self._position() < probe:
            if taken == probe // 2:  # the very first steps also set everything up
                since, before = self._now(), taken
            self.step(self.batches)
            self.trained.steps += 1
            self.clock.tick("generator", self._position(), self.wanted)
        self.clock.expect(self.wanted * (self._now() - since) / (self.trained.steps - before))

    def go_on(self) -> None:
        """The rest of the schedule; from where the generator is settled on, an average follows it."""
        while (at := self._position()) < self.wanted:
            self._enter(at)
            self._advance(at)
            if self.average is not None:
                self.average.update()
            if self.checkpoints.due():
                self.checkpoints.keep(self.state())

    def state(self) -> State:
        """All that the steps so far have changed."""
        average = {} if self.average is None else under("average", self.average.mean)
        tensors = self.step.tensors() | self.step.remembered() | average
        values = {
            "steps": self.trained.steps,
            "at": self._position(),
            "trajectory": self.trained.trajectory,
            "next_point": self.next_point,
            "marks": self.step.g.marks(),
            "updates": None if self.average is None else self.average.updates,
            "seconds": self.clock.seconds,
            "expected": self.clock.expected,
        }
        return State(tensors | under("random", of_randomness(self._device)), values)

    def resume(self, state: State) -> None:
        """Goes on from a state, in place of the first steps."""
        values = state.values
        self.trained = Trained(values["steps"], list(values["trajectory"]))
        self.next_point = values["next_point"]
        self.step.resume(state, self.trained.steps)
        if values["updates"] is not None:
            self.average = Average(*self.step.g.averaged(), self.ema, values["updates"])
            copy_into(self.average.mean, part("average", state.tensors))
        self.clock.resume(values["seconds"], values["expected"], values["at"])
        self.clock.tick("generator", 0, self.wanted)
        resume_randomness(self._device, part("random", state.tensors))

    def finish(self) -> None:
        """Takes the average, and looks at the last losses. Raises TrainingDiverged."""
        self._enter(self.wanted)
        _check(self.step.losses)
        if self.average is not None:
            self.average.apply()
        self.step.g.finish()

    def _enter(self, at: int) -> None:
        g = self.step.g
        was_settled = g.settled
        g.enter(at, self.wanted)
        if g.settled and self.average is None and self.ema:
            self.average = Average(*g.averaged(), self.ema)
        if g.settled and not was_settled:
            self._record(at)

    def _advance(self, at: int) -> None:
        self.step(self.batches)
        self.trained.steps += 1
        if not self.step.g.settled and at >= self.next_point:
            self._record(at)
        if self.clock.due():  # reading a loss waits for the device, so twice a second is enough
            metrics = _check(self.step.losses) | self.step.g.metrics()
            self.clock.tick("generator", at, self.wanted, metrics)

    def _record(self, at: int) -> None:
        """One more point of the trajectory, if there is anything to record."""
        if (point := self.step.g.point()) is not None:
            self.trained.trajectory.append({"step": at, **point})
        self.next_point = at + max(1, self.wanted // MOST_POINTS)

    def _position(self) -> int:
        return self.clock.position("generator", self.trained.steps, self.wanted)

    @property
    def _device(self) -> torch.device:
        return self.batches.x.device

    def _now(self) -> float:
        if self.batches.x.is_cuda:
            torch.cuda.synchronize()
        return self.clock.seconds


def norm_batches(clock: Clock, wanted: int) -> Iterator[int]:
    """Once for each batch that norms are measured with, with a report; fewer where the clock's limit is short.

    Arguments:
        wanted: steps of the training, which are taken.
    """
    began = clock.seconds
    for index in range(NORM_BATCHES):
        late = clock.limit is not None and clock.seconds - began > NORM_SHARE * clock.limit
        if late and index >= FEWEST_NORM_BATCHES:
            return
        clock.tick("generator", max(1, wanted - 1), wanted)
        yield index


def _check(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The losses as numbers. Raises TrainingDiverged if one is none."""
    values = {name: float(value) for name, value in losses.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingDiverged(f"{name} became {value}; send the task again, and look at its data for outliers")
    return values
