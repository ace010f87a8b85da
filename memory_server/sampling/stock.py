"""Rows that were made before anybody asked: what streams without a seed take from first."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Int, Shaped
from numpy import ndarray

from memory_server.sampling.formats import Form
from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import TILE_ROWS, ExpertKey, Tile, digest_of

CAPACITY_BYTES = 128 << 20
STREAM_BYTES = CAPACITY_BYTES // 4
"""What one stream may have made for it."""
STALE_SECONDS = 5.0

_Kind = tuple[ExpertKey, int, Form]
"""Rows that are alike: of one expert, of one class of it, in one form."""


class Stock:
    """Rows by expert and class, each given once. Calls may come from any thread.

    A tile of a few rows costs nearly as much as one of many, and a batch over many tasks is made of such tiles. So what
    a stream needs next is made along with what it needs now, and whoever asks for the like of it takes it from here.
    What requests ask for again and again is made in the pauses between them, see `Foresight`.

    Arguments:
        capacity: bytes that are kept at most. What is there is not pushed out by what comes, unless nobody has wanted
            it for `STALE_SECONDS`: experts are wanted in turn, so that the one that has waited longest is wanted next.
        clock: seconds.
    """

    def __init__(self, capacity: int = CAPACITY_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity = capacity
        self._clock = clock
        self._kept: dict[_Kind, _Pile] = {}
        self._nbytes = 0
        self._forgotten = 0
        self._lock = threading.Lock()
        self._random = np.random.default_rng()

    @property
    def nbytes(self) -> int:
        """Bytes of all rows that are here."""
        return self._nbytes

    @property
    def forgotten(self) -> int:
        """How often something was dropped for good: rows that were begun before are not kept."""
        return self._forgotten

    def spare(self, job: Job) -> int:
        """How many rows of an expert may be made for a job, those that it needs included; 0 if no more than these.

        They differ from time to time, or all experts of a stream would be through with theirs at once.
        """
        most = min(job.spare, self.room(job.form))
        return int(self._random.integers(most // 4, most, endpoint=True)) if most > 0 else 0

    def room(self, form: Form) -> int:
        """For how many rows there is room, once what is stale is gone if that is less than a tile's."""
        with self._lock:
            if self._nbytes + TILE_ROWS * form.nbytes > self.capacity:
                self._drop_stale()
            return (self.capacity - self._nbytes) // form.nbytes

    def count(self, expert: ExpertKey, index: int, form: Form) -> int:
        """How many rows of a class of an expert are here."""
        with self._lock:
            pile = self._kept.get((expert, index, form))
            return 0 if pile is None else len(pile)

    def take(self, tile: Tile, form: Form) -> Shaped[ndarray, "rows *shape"] | None:
        """The rows of a tile, if all of them are here."""
        kinds = [(tile.expert, run.index, form) for run in tile.runs]
        wanted: Counter[_Kind] = Counter()
        for kind, run in zip(kinds, tile.runs, strict=True):
            wanted[kind] += len(run.rows)
        with self._lock:
            if any(kind not in self._kept or len(self._kept[kind]) < rows for kind, rows in wanted.items()):
                return None
            now = self._clock()
            given = [self._kept[kind].give(len(run.rows), now) for kind, run in zip(kinds, tile.runs, strict=True)]
            for kind in wanted:
                if not len(self._kept[kind]):
                    del self._kept[kind]
            self._nbytes -= len(tile.places) * form.nbytes
        return np.concatenate(given)

    def put(
        self, expert: ExpertKey, form: Form, c: Int[ndarray, " rows"], x: Shaped[ndarray, "rows *shape"], forgotten: int
    ) -> None:
        """Keeps rows, as many as there is room for.

        Arguments:
            c: the class of each, as the expert calls it.
            forgotten: what `Stock.forgotten` was before the expert was looked for.
        """
        with self._lock:
            if forgotten != self._forgotten:
                return
            room = (self.capacity - self._nbytes) // form.nbytes
            c, x = c[:room], x[:room]
            for index in np.unique(c):
                rows = x[c == index]  # a copy: what is around them is let go
                pile = self._kept.setdefault((expert, int(index), form), _Pile())
                pile.add(rows, self._clock())
                self._nbytes += rows.nbytes

    def forget(self, experts: Iterable[str]) -> None:
        """Drops what was made by experts that no memory holds any more, and what is being made just now."""
        gone = frozenset(experts)
        with self._lock:
            self._forgotten += 1
            self._drop(kind for kind in self._kept if digest_of(kind[0]) in gone)

    def clear(self) -> None:
        """Drops all of it, and what is being made just now."""
        with self._lock:
            self._forgotten += 1
            self._drop(self._kept)

    def _drop_stale(self) -> None:
        since = self._clock() - STALE_SECONDS
        self._drop(kind for kind, pile in self._kept.items() if pile.wanted < since)

    def _drop(self, kinds: Iterable[_Kind]) -> None:
        for kind in list(kinds):
            self._nbytes -= len(self._kept.pop(kind)) * kind[2].nbytes


class _Pile:
    """Rows that are alike.

    Attributes:
        wanted: when some of them were given or came.
    """

    def __init__(self) -> None:
        self._rows: list[ndarray] = []
        self._count = 0
        self.wanted = 0.0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: ndarray, now: float) -> None:
        self._rows.append(rows)
        self._count += len(rows)
        self.wanted = now

    def give(self, count: int, now: float) -> ndarray:
        """So many rows, which must be here."""
        given, self._count, self.wanted = [], self._count - count, now
        while count:
            last = self._rows.pop()
            given.append(last[:count])
            if len(last) > count:
                self._rows.append(last[count:])
            count -= len(given[-1])
        return given[0] if len(given) == 1 else np.concatenate(given)
