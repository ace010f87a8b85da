"""What a batch is made of: pure functions from a request to tiles, the canonical units of computation.

Row g of a stream has class g mod C before the rows of a batch are shuffled, so every batch and every total is balanced
over the C classes to ±1. Small batches are computed together and large ones in parts, both as *segments* of bounded
size; a segment is computed in *tiles*: up to 64 rows of one expert, padded to a multiple of eight. Their shapes follow
from the request alone: what other clients do cannot change a bit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from dgm_core.manifest import DataSpec, Label, Manifest
from dgm_core.memory import Blend
from memory_server.errors import EmptyMemory, UnknownClass, UnknownTask
from memory_server.sampling import noise

TILE_ROWS = 64
TILE_STEP = 8
SMALL_ROWS = 256
SEGMENT_ELEMENTS = 1 << 20
SEGMENT_ROWS = 1024


@dataclass(frozen=True)
class Blended:
    """An expert that a memory does not hold but can make.

    Arguments:
        blend: what it is.
        origins: digests of the experts and of the base between which it lies: equal ones make equal experts.
        own: digest of the expert that it is, if it lies at an end. A blend has one class, and with more of them sums
            may be rounded otherwise: the expert itself gives the bits of its task.
    """

    blend: Blend
    origins: tuple[str, ...]
    own: str | None = None


@dataclass(frozen=True)
class Reduced:
    """An expert that a memory holds, in reduced precision.

    Arguments:
        digest: of the expert.
    """

    digest: str


ExpertKey = str | Reduced | Blended
"""What an expert is found by: its digest if a memory holds it, else how it is made."""


def digest_of(key: ExpertKey) -> str:
    """Of the expert that a memory holds, whatever its precision; of a blend, which none holds, the empty one."""
    return key if isinstance(key, str) else getattr(key, "digest", "")


@dataclass(frozen=True)
class Source:
    """One expert for one class: its key, the class index that it knows, and its share (examples learned)."""

    expert: ExpertKey
    index: int
    weight: int


@dataclass(frozen=True)
class Run:
    """Consecutive rows of one class of one batch in one tile.

    Arguments:
        batch: index of the batch in the stream.
        label: the class.
        index: what the expert calls it.
        rows: positions among the rows of this class in the batch.
    """

    batch: int
    label: Label
    index: int
    rows: range


@dataclass(frozen=True)
class Tile:
    """Up to 64 rows of one expert.

    Arguments:
        expert: its key.
        runs: the classes in it, in canonical order.
        places: int64 (rows,), where each row belongs in the segment.
    """

    expert: ExpertKey
    runs: tuple[Run, ...]
    places: Int[ndarray, " rows"]

    @property
    def padded(self) -> int:
        """Rows that are computed: the next multiple of eight."""
        return -(-len(self.places) // TILE_STEP) * TILE_STEP


@dataclass(frozen=True)
class Segment:
    """Consecutive rows of a stream that are computed together: some whole batches, or a part of a large one.

    Arguments:
        row: position of the first row in the stream.
        y: int32 (rows,), indices into the plan's classes; no rows after the end of the stream.
        tiles: what to compute.
    """

    row: int
    y: Int[ndarray, " rows"]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Plan:
    """A sampling request resolved against one revision.

    Arguments:
        classes: the classes to sample, in the order that labels index.
        sources: the experts of each class.
        batch_size: rows of one batch; the last batch of a finite stream may be smaller.
        n: rows in total, None if endless.
        seed: of the stream, 64 bits.
        segment_rows: rows computed together at most, see `segment_rows`.
    """

    classes: tuple[Label, ...]
    sources: tuple[tuple[Source, ...], ...]
    batch_size: int
    n: int | None
    seed: int
    segment_rows: int

    def rows_each(self, row: int, most: int) -> int:
        """Rows of each expert, on average, from that position of the stream on; of `most` rows in all, at most."""
        return (most if self.n is None else min(most, self.n - row)) // self._experts

    @cached_property
    def _experts(self) -> int:
        return len({source.expert for sources in self.sources for source in sources})

    def rows_of(self, batch: int) -> int:
        """Rows of one batch; 0 after the last."""
        return self.batch_size if self.n is None else max(0, min(self.batch_size, self.n - batch * self.batch_size))

    def find(self, batch: int) -> int:
        """The segment that a batch begins in."""
        return batch * self.parts // self._together

    def batches(self, number: int) -> range:
        """The batches that a segment has rows of, could the stream not end within it."""
        group = number // self.parts * self._together
        return range(group, group + self._together)

    def segment(self, number: int) -> Segment:
        """One segment, fully determined by the plan."""
        pieces = list(self._pieces(number))
        y = np.empty(sum(len(piece.places) for piece in pieces), np.int32)
        for piece in pieces:
            y[piece.places] = (np.arange(len(piece.places)) + piece.label) % len(self.classes)
        return Segment(self._first_row(number), y, tuple(self._tiles(pieces)))

    @property
    def parts(self) -> int:
        """Segments of one batch, 1 unless it is larger than a segment."""
        return -(-self.batch_size // self.segment_rows)

    @property
    def _together(self) -> int:
        """Batches of one segment, if they are small: alone they would make poor tiles."""
        return max(1, min(self.segment_rows, SMALL_ROWS) // self.batch_size)

    def _first_row(self, number: int) -> int:
        batch, part = divmod(number, self.parts)
        return batch * self._together * self.batch_size + part * self.segment_rows

    def _pieces(self, number: int) -> Iterator["_Piece"]:
        part = number % self.parts
        at = 0
        for batch in self.batches(number):
            first = part * self.segment_rows
            rows = min(self.segment_rows, self.rows_of(batch) - first)
            if rows <= 0:
                return
            label = (batch * self.batch_size + first) % len(self.classes)
            yield _Piece(batch, part, label, at + noise.permutation(self.seed, batch, part, rows))
            at += rows

    def _tiles(self, pieces: Iterable["_Piece"]) -> Iterator[Tile]:
        work: dict[ExpertKey, list[tuple[Run, ndarray]]] = {}
        for piece in pieces:
            classes = len(self.classes)
            for c in sorted((piece.label + row) % classes for row in range(min(classes, len(piece.places)))):
                mine = piece.places[(c - piece.label) % classes :: classes]
                for source, run, rows in self._runs(piece, c, len(mine)):
                    work.setdefault(source.expert, []).append((run, mine[rows.start : rows.stop]))
        for expert, runs in work.items():
            yield from _cut(expert, runs)

    def _runs(self, piece: "_Piece", c: int, count: int) -> Iterator[tuple[Source, Run, range]]:
        """The rows of class c in a piece, by expert."""
        label, sources, earlier = self.classes[c], self.sources[c], self._rows_before(piece, c)
        total = sum(source.weight for source in sources)
        # The only expert of a class has all of its rows, wherever the shares are cut.
        offset = noise.below(total, self.seed, piece.batch, label, piece.part) if len(sources) > 1 else 0
        for source, rows in split(sources, count, offset):
            run = Run(piece.batch, label, source.index, range(earlier + rows.start, earlier + rows.stop))
            yield source, run, rows

    def _rows_before(self, piece: "_Piece", c: int) -> int:
        """Rows of class c in the earlier parts of the batch: the g with g mod C = c."""
        first, classes = piece.batch * self.batch_size, len(self.classes)
        below = (first + piece.part * self.segment_rows - c + classes - 1) // classes
        return below - (first - c + classes - 1) // classes


@dataclass(frozen=True)
class Repeated:
    """A stream whose every batch is the first one of a plan of its own: the same noise through expert after expert.

    Arguments:
        plans: one for each batch, of one batch each, alike but for their sources.
    """

    plans: tuple[Plan, ...]

    @property
    def classes(self) -> tuple[Label, ...]:
        """The classes that labels index."""
        return self.plans[0].classes

    @property
    def batch_size(self) -> int:
        """Rows of one batch."""
        return self.plans[0].batch_size

    @property
    def seed(self) -> int:
        """Of the stream."""
        return self.plans[0].seed

    def rows_each(self, _row: int, _most: int) -> int:
        """None: it is the same noise that every expert is given."""
        return 0

    def find(self, batch: int) -> int:
        """See `Plan.find`."""
        return batch * self.plans[0].parts

    def batches(self, number: int) -> range:
        """See `Plan.batches`."""
        batch = number // self.plans[0].parts
        return range(batch, batch + 1)

    def segment(self, number: int) -> Segment:
        """See `Plan.segment`."""
        batch, part = divmod(number, self.plans[0].parts)
        if batch >= len(self.plans):
            return Segment(len(self.plans) * self.batch_size, np.empty(0, np.int32), ())
        segment = self.plans[batch].segment(part)
        return replace(segment, row=batch * self.batch_size + segment.row)


@dataclass(frozen=True)
class _Piece:
    """What a segment has of one batch: its part of it, the class of its first row in canonical order, and all places.

    The classes of its rows follow each other in turn, as the places do.
    """

    batch: int
    part: int
    label: int
    places: ndarray


def segment_rows(spec: DataSpec) -> int:
    """Rows of a segment: at most 1024 and about a million elements, so that memory per stream is bounded."""
    return max(TILE_STEP, min(SEGMENT_ROWS, SEGMENT_ELEMENTS // prod(spec.shape)))


def split(sources: Sequence[Source], rows: int, offset: int) -> Iterator[tuple[Source, range]]:
    """Rows of one class over its experts, in proportion to their weights to ±1 (systematic sampling).

    Row i goes to the expert at ⌊(i·W + offset) / rows⌋ of the total weight W: unbiased for `offset` uniform in [0, W).
    Experts that get no row are left out.
    """
    bounds = [0, *accumulate(source.weight for source in sources)]
    # The first i with (i·W + offset) / rows >= bound, in exact integers.
    cuts = [-((offset - bound * rows) // bounds[-1]) for bound in bounds]
    for source, (start, stop) in zip(sources, pairwise(cuts), strict=True):
        if stop > start:
            yield source, range(start, stop)


def sources_of(
    manifest: Manifest,
    memory: str,
    classes: Sequence[Label],
    tasks: Sequence[str],
    key: Callable[[str], ExpertKey] = str,
    field: str = "",
) -> tuple[tuple[Label, ...], tuple[tuple[Source, ...], ...]]:
    """The classes of a request and the experts of each; empty `classes` or `tasks` stand for all.

    Arguments:
        key: of an expert of that digest.
        field: see `UnknownClass`.

    Raises:
        EmptyMemory: nothing has been learned yet.
        UnknownTask, UnknownClass: this revision does not hold one of them.
    """
    if not manifest.tasks:
        raise EmptyMemory(memory)
    known = {entry.task: None for entry in manifest.tasks}
    for task in tasks:
        if task not in known:
            raise UnknownTask(memory, task, known)
    found: dict[Label, list[Source]] = {}
    asked = frozenset(tasks or known)
    for entry, expert in manifest.experts():
        if entry.task in asked:
            for index, (label, examples) in enumerate(zip(expert.classes, expert.examples, strict=True)):
                found.setdefault(label, []).append(Source(key(expert.digest), index, max(1, examples)))
    for label in classes:
        if label not in found:
            raise UnknownClass(memory, label, found, tasks, field)
    chosen = tuple(classes) or tuple(found)
    return chosen, tuple(tuple(found[label]) for label in chosen)


def _cut(expert: ExpertKey, runs: Sequence[tuple[Run, ndarray]]) -> Iterator[Tile]:
    places = np.concatenate([where for _, where in runs])
    for first in range(0, len(places), TILE_ROWS):
        yield Tile(expert, tuple(_window(runs, first, first + TILE_ROWS)), places[first : first + TILE_ROWS])


def _window(runs: Sequence[tuple[Run, ndarray]], first: int, stop: int) -> Iterator[Run]:
    at = 0
    for run, _ in runs:
        rows = run.rows[max(0, first - at) : max(0, stop - at)]
        at += len(run.rows)
        if rows:
            yield run if rows == run.rows else replace(run, rows=rows)
