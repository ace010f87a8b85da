"""Which batches of a stream its reader wants, and what has to be computed of a segment for it."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from memory_server.sampling.plan import Segment


@dataclass(frozen=True)
class Wanted:
    """Every `stride`-th batch from `first` on: how several readers share one stream.

    Arguments:
        first: index of a batch in the stream.
        stride: at least 1.
    """

    first: int
    stride: int = 1

    def after(self, batch: int) -> int:
        """The first wanted batch that is not before `batch`."""
        return self.first + max(0, -(-(batch - self.first) // self.stride)) * self.stride

    def part(self, segment: Segment, batch_size: int) -> "Part":
        """What a reader gets of a segment."""
        if self.stride == 1 and segment.row >= self.first * batch_size:
            return Part(segment, np.arange(len(segment.y)))
        batches = (segment.row + np.arange(len(segment.y))) // batch_size
        wanted = (batches >= self.first) & ((batches - self.first) % self.stride == 0)
        # A tile with a wanted row is computed whole: its shape has a say in the bits of its rows.
        tiles = tuple(tile for tile in segment.tiles if wanted[tile.places].any())
        return Part(replace(segment, tiles=tiles), np.flatnonzero(wanted))


@dataclass(frozen=True)
class Part:
    """Some rows of a segment.

    Arguments:
        segment: with no tiles but those that hold one of these rows.
        rows: int64 (wanted,), places in the segment, ascending.
    """

    segment: Segment
    rows: Int[ndarray, " wanted"]

    @property
    def position(self) -> int:
        """Of the first of these rows in the stream."""
        return self.segment.row + int(self.rows[0])

    def of(self, values: ndarray) -> ndarray:
        """These rows of what a segment has: (rows, ...) -> (wanted, ...), without a copy if they lie side by side."""
        first, last = int(self.rows[0]), int(self.rows[-1])
        return values[first : last + 1] if last - first + 1 == len(self.rows) else values[self.rows]
