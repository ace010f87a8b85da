"""What waits to be computed: whose turn it is, and what can be computed along with it.

Streams share the device by start-time fair queueing (Goyal et al. 1996): a stream's next tile is due at the virtual
time at which its earlier ones have been paid for, and the tile that is due first is next. What a pass has taken is paid
for when it is over, in seconds, split by the rows of each stream: loading an expert, rounding up and what is made for
stock take time, too, so that rows of one pass cost a hundred times those of another. So each of n busy streams gets an
n-th of the time, whatever it asks for, one that comes back from a pause is due at once, and nobody starves. Rows that
somebody waits for cost an eighth of those of a stream that runs ahead of its reader, and come first among those that
are due.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import chain, count, islice

from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import TILE_ROWS, ExpertKey, Tile

URGENCY = 8
"""How many times its share a stream gets for which somebody waits."""

PASS_ROWS = 256
"""Of one expert in a pass for streams that run ahead: more a second than in tiles, but newcomers wait longer. Where
somebody waits already, the rows of a tile are enough."""
FEW_ROWS = 8
"""Up to so many rows of an expert are worth a place in a bundle; more are faster alone."""
MOST_EXPERTS = 16
"""Of a bundle: what it holds beside the experts themselves stays small."""
_LOOKED_AT = 256

Signature = Callable[[ExpertKey], Hashable | None]
"""The signature of an expert (see `Expert.signature`), None while it is not on the device."""
Spare = Callable[[Job], int]
"""How many rows of an expert may be made for a job, see `Stock.spare`."""


@dataclass(eq=False)
class Work:
    """One tile of a job, waiting."""

    turn: "_Turn"
    job: Job
    tile: Tile

    @property
    def rows(self) -> int:
        """Rows that its stream needs of it."""
        return len(self.tile.places)

    @property
    def key(self) -> tuple[str, ExpertKey]:
        """What it can be merged by."""
        return self.job.memory, self.tile.expert


@dataclass(eq=False)
class _Turn:
    """A stream's place in the order: `due` is the virtual time of its next tile."""

    due: float
    works: deque[Work] = field(default_factory=deque)
    queued: bool = False


class Waiting:
    """All tiles that wait. Calls are made by one thread at a time.

    Arguments:
        signature: tells which experts can be bundled.
        spare: tells for which jobs many rows of one expert are made where few are needed.

    Attributes:
        tiles: how many wait.
    """

    def __init__(self, signature: Signature, spare: Spare) -> None:
        self._signature = signature
        self._spare = spare
        self._now = 0.0
        self._turns: dict[Hashable, _Turn] = {}
        self._order: list[tuple[float, bool, int, _Turn]] = []
        self._arrivals = count()
        self.tiles = 0
        # Tiles that may be merged, by what they can be merged by; in the order of their coming.
        self._open: dict[tuple[str, ExpertKey], dict[Work, None]] = {}

    def add(self, stream: Hashable, job: Job, tiles: Sequence[Tile]) -> None:
        """Tiles of a job, behind those that its stream has waiting."""
        turn = self._turns.setdefault(stream, _Turn(self._now))
        if not turn.works:
            turn.due = max(turn.due, self._now)
        self.tiles += len(tiles)
        for tile in tiles:
            work = Work(turn, job, tile)
            turn.works.append(work)
            if not job.exact:
                self._open.setdefault(work.key, {})[work] = None
        self._queue(turn)

    def drop(self, stream: Hashable) -> None:
        """Forgets a stream and the tiles that it has waiting."""
        turn = self._turns.pop(stream, None)
        if turn is not None:
            self.tiles -= len(turn.works)
            for work in turn.works:
                self._close(work)
            turn.works.clear()

    @property
    def deserted(self) -> bool:
        """Whether no stream is known."""
        return not self._turns

    def take(self) -> list[Work]:
        """The next pass over the device: the tile that is due, and what may be computed along with it.

        A tile whose bytes are promised is alone. Others are merged with those of the same expert, and few rows of one
        expert with few of others like it. Their streams pay for it once it is computed, see `charge`.
        """
        while self._order:
            due, *_, turn = heappop(self._order)
            turn.queued = False
            if turn.works and due < turn.due:  # it has paid for a pass in the meantime
                self._queue(turn)
            elif turn.works:
                self._now = due
                return self._pass(turn.works[0])
        return []

    def charge(self, works: Sequence[Work], seconds: float) -> None:
        """Has the streams of a pass pay for the time that it has taken.

        Until then they may have another one computed by another thread, which they pay for all the same.
        """
        rows = sum(work.rows for work in works)
        for work in works:
            work.turn.due += seconds * work.rows / rows / (URGENCY if work.job.urgent else 1)

    def _pass(self, first: Work) -> list[Work]:
        works = [first] if first.job.exact else list(self._merged(first))
        for work in works:
            self._take(work)
        return works

    def _merged(self, first: Work) -> Iterator[Work]:
        rows = 0
        most = TILE_ROWS if first.job.urgent else PASS_ROWS
        others = (work for work in self._open[first.key] if work is not first)
        for work in _fitting(chain([first], others), most):
            rows += work.rows
            yield work
        if rows > FEW_ROWS or self._spare(first.job) > 2 * FEW_ROWS:
            return
        if (signature := self._signature(first.tile.expert)) is None:
            return
        memory, _ = first.key
        alike = (
            key
            for key, works in islice(self._open.items(), _LOOKED_AT)
            if key != first.key
            and key[0] == memory
            and next(iter(works)).rows <= FEW_ROWS
            and self._signature(key[1]) == signature
        )
        for key in islice(alike, MOST_EXPERTS - 1):
            yield from _fitting(self._open[key], FEW_ROWS)

    def _take(self, work: Work) -> None:
        self._close(work)
        self.tiles -= 1
        work.turn.works.remove(work)  # near the front: a pass takes the oldest of each stream
        self._queue(work.turn)

    def _queue(self, turn: _Turn) -> None:
        if turn.works and not turn.queued:
            turn.queued = True
            heappush(self._order, (turn.due, not turn.works[0].job.urgent, next(self._arrivals), turn))

    def _close(self, work: Work) -> None:
        works = self._open.get(work.key, {})
        works.pop(work, None)
        if not works:
            self._open.pop(work.key, None)


def _fitting(works: Iterable[Work], rows: int) -> Iterator[Work]:
    """The first of some works, as long as their rows are no more than so many."""
    for work in works:
        rows -= work.rows
        if rows < 0:
            return
        yield work
