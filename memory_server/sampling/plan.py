"""What a batch is made of: pure functions from a request to tiles, the canonical units of computation.

Row g of a stream has class g mod C before the rows of a batch are shuffled, so every batch and every total is balanced
over the C classes to ±1. A batch is computed in *segments* of bounded size, a segment in *tiles*: up to 64 rows of one
expert, padded to a power of two. Their shapes follow from the request alone: what other clients do cannot change a bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from dgm_core.memory import DataSpec, Label, Manifest
from memory_server.errors import EmptyMemory, UnknownClass, UnknownTask
from memory_server.sampling import noise

TILE_ROWS = 64
LEAST_TILE_ROWS = 8
SEGMENT_ELEMENTS = 1 << 20
SEGMENT_ROWS = 1024


@dataclass(frozen=True)
class Source:
    """One expert for one class: its digest, the class index that it knows, and its share (examples learned)."""

    digest: str
    index: int
    weight: int


@dataclass(frozen=True)
class Run:
    """Consecutive rows of one class in one tile.

    Arguments:
        label: the class.
        index: what the expert calls it.
        rows: positions among the rows of this class in the batch.
    """

    label: Label
    index: int
    rows: range


@dataclass(frozen=True)
class Tile:
    """Up to 64 rows of one expert.

    Arguments:
        digest: of the expert.
        runs: the classes in it, in canonical order.
        places: int64 (rows,), where each row belongs in the segment.
    """

    digest: str
    runs: tuple[Run, ...]
    places: Int[ndarray, " rows"]

    @property
    def padded(self) -> int:
        """Rows that are computed: the next power of two, at least 8."""
        return max(LEAST_TILE_ROWS, 1 << (len(self.places) - 1).bit_length())


@dataclass(frozen=True)
class Segment:
    """Consecutive rows of one batch that are computed together.

    Arguments:
        batch: index of the batch in the stream.
        index: of the segment in its batch.
        row: position of the first row in the stream.
        y: int32 (rows,), indices into the plan's classes.
        tiles: what to compute.
    """

    batch: int
    index: int
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
        segment_rows: rows computed together, see `segment_rows`.
    """

    classes: tuple[Label, ...]
    sources: tuple[tuple[Source, ...], ...]
    batch_size: int
    n: int | None
    seed: int
    segment_rows: int

    @property
    def batches(self) -> int | None:
        """How many batches the stream has, None if endless."""
        return None if self.n is None else -(-self.n // self.batch_size)

    def rows_of(self, batch: int) -> int:
        """Rows of one batch."""
        return self.batch_size if self.n is None else max(0, min(self.batch_size, self.n - batch * self.batch_size))

    def segments_of(self, batch: int) -> int:
        """Segments of one batch."""
        return -(-self.rows_of(batch) // self.segment_rows)

    def segment(self, batch: int, index: int) -> Segment:
        """One segment of one batch, fully determined by the plan."""
        first = index * self.segment_rows
        rows = min(self.segment_rows, self.rows_of(batch) - first)
        row = batch * self.batch_size + first
        labels = (np.arange(row, row + rows) % len(self.classes)).astype(np.int32)
        places = noise.permutation(self.seed, batch, index, rows)
        y = np.empty(rows, np.int32)
        y[places] = labels
        return Segment(batch, index, row, y, tuple(self._tiles(batch, index, labels, places)))

    def _tiles(self, batch: int, index: int, labels: ndarray, places: ndarray) -> Iterator[Tile]:
        work: dict[str, list[tuple[Run, ndarray]]] = {}
        for c in np.flatnonzero(np.bincount(labels)).tolist():
            label, mine = self.classes[c], places[labels == c]
            earlier = self._rows_before(batch, index, c)
            offset = noise.below(sum(source.weight for source in self.sources[c]), self.seed, batch, label, index)
            for source, rows in split(self.sources[c], len(mine), offset):
                run = Run(label, source.index, range(earlier + rows.start, earlier + rows.stop))
                work.setdefault(source.digest, []).append((run, mine[rows.start : rows.stop]))
        for digest, runs in work.items():
            yield from _cut(digest, runs)

    def _rows_before(self, batch: int, index: int, c: int) -> int:
        """Rows of class c in the earlier segments of this batch: the g with g mod C = c."""
        first = batch * self.batch_size
        below = (first + index * self.segment_rows - c + len(self.classes) - 1) // len(self.classes)
        return below - (first - c + len(self.classes) - 1) // len(self.classes)


def segment_rows(spec: DataSpec) -> int:
    """Rows of a segment: at most 1024 and about a million elements, so that memory per stream is bounded."""
    elements = int(np.prod(spec.shape))
    return max(LEAST_TILE_ROWS, min(SEGMENT_ROWS, SEGMENT_ELEMENTS // elements))


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
    manifest: Manifest, memory: str, classes: Sequence[Label], tasks: Sequence[str]
) -> tuple[tuple[Label, ...], tuple[tuple[Source, ...], ...]]:
    """The classes of a request and the experts of each; empty `classes` or `tasks` stand for all.

    Raises:
        EmptyMemory: nothing has been learned yet.
        UnknownTask, UnknownClass: this revision does not hold one of them.
    """
    if not manifest.tasks:
        raise EmptyMemory(f"memory {memory!r} has learned nothing yet; teach it a task with LearnTask first")
    known = [entry.task for entry in manifest.tasks]
    for task in tasks:
        if task not in known:
            raise UnknownTask(memory, task, known)
    found: dict[Label, list[Source]] = {}
    for entry, expert in manifest.experts():
        if not tasks or entry.task in tasks:
            for index, (label, examples) in enumerate(zip(expert.classes, expert.examples, strict=True)):
                found.setdefault(label, []).append(Source(expert.digest, index, max(1, examples)))
    for label in classes:
        if label not in found:
            raise UnknownClass(memory, label, found)
    chosen = tuple(classes) or tuple(found)
    return chosen, tuple(tuple(found[label]) for label in chosen)


def _cut(digest: str, runs: Sequence[tuple[Run, ndarray]]) -> Iterator[Tile]:
    places = np.concatenate([where for _, where in runs])
    for first in range(0, len(places), TILE_ROWS):
        yield Tile(digest, tuple(_window(runs, first, first + TILE_ROWS)), places[first : first + TILE_ROWS])


def _window(runs: Sequence[tuple[Run, ndarray]], first: int, stop: int) -> Iterator[Run]:
    at = 0
    for run, _ in runs:
        rows = run.rows[max(0, first - at) : max(0, stop - at)]
        at += len(run.rows)
        if rows:
            yield Run(run.label, run.index, rows)
