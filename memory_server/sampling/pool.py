"""Threads that compute tiles, one tile of each stream in turn."""

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy import ndarray

from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.plan import Segment, Tile
from memory_server.sampling.tiles import compute


@dataclass(eq=False)
class Job:
    """One segment on its way: `done` resolves once `x` is complete.

    Arguments:
        memory: name of the memory that holds the experts.
        seed: of the stream.
        segment: what to compute.
        skip: how many of its first rows were not asked for.
        x: (rows, *shape), filled in tile by tile.
        done: resolves to None, or to the exception that stopped it.
    """

    memory: str
    seed: int
    segment: Segment
    skip: int
    x: ndarray
    done: asyncio.Future[None]
    _left: int = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._left = len(self.segment.tiles)

    def run(self, tile: Tile, experts: ExpertCache) -> None:
        """Computes one tile; the last one, or the first that fails, resolves `done`."""
        try:
            expert = experts.expert(self.memory, tile.expert)
            self.x[tile.places] = compute(
                expert,
                tile,
                seed=self.seed,
                device=experts.device,
                as_uint8=self.x.dtype == np.uint8,
            )
        except Exception as error:  # the reader of the stream must hear of it, whatever it is
            self._resolve(error)
            return
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._resolve(None)

    def _resolve(self, error: Exception | None) -> None:
        self.done.get_loop().call_soon_threadsafe(_settle, self.done, error)


class TilePool:
    """A fixed number of threads that take turns between streams.

    Arguments:
        experts: where tiles find their generators.
        threads: how many tiles are computed at once, each by one thread.
    """

    def __init__(self, experts: ExpertCache, threads: int) -> None:
        self._experts = experts
        self._waiting: OrderedDict[Hashable, deque[tuple[Job, Tile]]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"tiles-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, stream: Hashable, job: Job) -> None:
        """Queues the tiles of a job behind those that its stream has waiting."""
        with self._changed:
            self._waiting.setdefault(stream, deque()).extend((job, tile) for tile in job.segment.tiles)
            self._changed.notify(len(job.segment.tiles))

    def forget(self, stream: Hashable) -> None:
        """Drops the waiting tiles of a stream whose reader is gone."""
        with self._changed:
            self._waiting.pop(stream, None)

    def close(self) -> None:
        """Ends the threads after the tiles that they are at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        # One thread per tile: the sum of a reduction depends on how many threads share it.
        torch.set_num_threads(1)
        while (work := self._next()) is not None:
            job, tile = work
            job.run(tile, self._experts)

    def _next(self) -> tuple[Job, Tile] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            stream, tiles = self._waiting.popitem(last=False)
            work = tiles.popleft()
            if tiles:
                self._waiting[stream] = tiles
            return work


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
        done.exception()  # marks it as seen: a reader that left does not come back for it
