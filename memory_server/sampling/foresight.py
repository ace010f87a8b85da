"""What requests ask for again and again, and will most likely ask for next: made while nothing is waited for."""

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from memory_server.sampling.formats import Form
from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import TILE_ROWS, ExpertKey, digest_of
from memory_server.sampling.stock import STALE_SECONDS, Stock

READY_REQUESTS = 16
"""As many requests of a kind are ready at most. On a device that is busy for 80 % of the time, one request in a hundred
comes when ten others have come before their time; sixteen are behind once in a thousand."""
READY_BYTES = 8 << 20
"""Of one expert in one form."""
MOST_HABITS = 4096
_LOOKED_AT = 256


class _Kind(NamedTuple):
    """What requests have in common that take the same rows."""

    memory: str
    expert: ExpertKey
    form: Form


@dataclass
class _Habit:
    """What is asked of one expert.

    Attributes:
        usual: rows of each class, of the largest requests.
        requests: how many came, none of them long after the one before.
        last: when the last one came.
        making: rows of each class that are being made.
    """

    usual: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    last: float = 0.0
    making: Counter[int] = field(default_factory=Counter)

    def goal(self, row_bytes: int) -> Counter[int]:
        """How many rows of each class are to be ready: nothing for the first request, more with every other."""
        room = READY_BYTES // (row_bytes * self.usual.total())
        times = min(self.requests - 1, READY_REQUESTS, room)
        return Counter({index: rows * times for index, rows in self.usual.items()})


@dataclass(frozen=True)
class Order:
    """Rows to be made ahead, at most those of a tile.

    Arguments:
        memory: name of the memory that holds the expert.
        expert: its key.
        form: of the rows.
        c: int64 (rows,), the class of each, as the expert calls it.
    """

    memory: str
    expert: ExpertKey
    form: Form
    c: Int[ndarray, " rows"]


class Foresight:
    """Fills the stock for requests without a seed. Calls are made by one thread at a time.

    Requests come at random: for a while more of them than the device can answer, then none. Rows that are made in the
    pauses are there when it matters; what is made is what was taken, so that it costs no more. Whoever asks once has
    nothing made ahead, and what nobody has asked for within `STALE_SECONDS` is made no more.

    Arguments:
        stock: where the rows go.
        loaded: whether an expert is on the device; none is loaded for what nobody waits for.
        clock: seconds.
    """

    def __init__(
        self, stock: Stock, loaded: Callable[[ExpertKey], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stock = stock
        self._loaded = loaded
        self._clock = clock
        self._habits: dict[_Kind, _Habit] = {}  # the one that was asked for last comes last
        self._short: dict[_Kind, None] = {}  # of which something may be missing, in the order of their turns

    def note(self, job: Job) -> None:
        """A request, for the like of which somebody will wait again."""
        if job.exact or not job.urgent:
            return
        now = self._clock()
        for expert, asked in _asked(job).items():
            kind = _Kind(job.memory, expert, job.form)
            habit = self._habits.pop(kind, None)
            if habit is None or habit.last < now - STALE_SECONDS:
                habit = _Habit()
            self._habits[kind] = habit
            habit.usual |= asked
            habit.requests += 1
            habit.last = now
            self._short[kind] = None
        while len(self._habits) > MOST_HABITS:
            self._drop(next(iter(self._habits)))

    def next(self) -> Order | None:
        """What to make now, if anything; `made` must be told once it is."""
        for kind in list(islice(self._short, _LOOKED_AT)):
            del self._short[kind]
            if (order := self._order(kind)) is not None:
                self._short[kind] = None  # behind the others, until nothing is missing
                return order
        return None

    def made(self, order: Order, well: bool = True) -> None:
        """The rows of an order are in stock; or, if it did not go well, they cannot be made."""
        kind = _Kind(order.memory, order.expert, order.form)
        if (habit := self._habits.get(kind)) is None:
            return
        habit.making -= Counter(order.c.tolist())
        if not well:
            self._drop(kind)

    def forget(self, experts: Collection[str]) -> None:
        """Makes nothing more of experts that no memory holds any more."""
        for kind in [kind for kind in self._habits if digest_of(kind.expert) in experts]:
            self._drop(kind)

    def _order(self, kind: _Kind) -> Order | None:
        habit, form = self._habits[kind], kind.form
        if habit.last < self._clock() - STALE_SECONDS:
            self._drop(kind)
            return None
        goal = habit.goal(form.nbytes)
        ready = Counter({index: self._stock.count(kind.expert, index, form) for index in goal})
        missing = goal - ready - habit.making
        rows = min(missing.total(), TILE_ROWS)
        # A pass of a few rows costs nearly as much as one of many: they are made once there are enough of them.
        if rows == 0 or rows < min(TILE_ROWS, goal.total() // 2):
            return None
        if self._stock.room(form) < rows or not self._loaded(kind.expert):
            return None
        c = np.repeat(np.array([*missing.keys()]), [*missing.values()])
        c = c[np.arange(rows) * len(c) // rows]  # of each class its part
        habit.making += Counter(c.tolist())
        return Order(kind.memory, kind.expert, form, c)

    def _drop(self, kind: _Kind) -> None:
        del self._habits[kind]
        self._short.pop(kind, None)


def _asked(job: Job) -> dict[ExpertKey, Counter[int]]:
    """How many rows of each class a job wants of each expert."""
    asked: dict[ExpertKey, Counter[int]] = {}
    for tile in job.segment.tiles:
        for run in tile.runs:
            asked.setdefault(tile.expert, Counter())[run.index] += len(run.rows)
    return asked
