"""Segments on their way to a reader: what is to be computed, and where it is delivered."""

import asyncio
import threading
from dataclasses import dataclass, field

from numpy import ndarray

from memory_server.sampling.formats import Form
from memory_server.sampling.plan import Segment, Tile
from memory_server.sampling.wanted import Part


@dataclass(eq=False)
class Job:
    """One segment on its way: `done` resolves once `x` is complete.

    Arguments:
        memory: name of the memory that holds the experts.
        seed: of the stream.
        exact: whether its bytes are promised: each tile is computed alone, on the seed's noise. Else it may be merged.
        urgent: whether somebody waits for it, rather than for a stream to go on.
        spare: how many rows of an expert may be made for it at a time, for what its stream wants next; 0 if none.
        part: what to compute of which segment.
        form: of x.
        x: (rows, *shape) of the whole segment, filled in tile by tile.
        done: resolves to None, or to the exception that stopped it.
    """

    memory: str
    seed: int
    exact: bool
    urgent: bool
    spare: int
    part: Part
    form: Form
    x: ndarray
    done: asyncio.Future[None]
    _left: int = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._left = len(self.segment.tiles)

    @property
    def segment(self) -> Segment:
        """What to compute."""
        return self.part.segment

    def deliver(self, tile: Tile, rows: ndarray) -> None:
        """Puts the rows of one of its tiles into their places; the last tile resolves `done`. From any thread."""
        self.x[tile.places] = rows
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._resolve(None)

    def fail(self, error: Exception) -> None:
        """Resolves `done` to what stopped one of its tiles. From any thread."""
        self._resolve(error)

    def _resolve(self, error: Exception | None) -> None:
        loop = self.done.get_loop()
        if _running_loop() is loop:  # what is there already is not to be waited for
            _settle(self.done, error)
        else:
            loop.call_soon_threadsafe(_settle, self.done, error)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
        done.exception()  # marks it as seen: a reader that left does not come back for it
