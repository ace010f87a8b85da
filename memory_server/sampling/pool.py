"""Threads that keep the device busy, pass after pass."""

import threading
import time
from collections.abc import Callable, Hashable

import torch

from memory_server.sampling import passes
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import Tile
from memory_server.sampling.stock import Stock
from memory_server.sampling.waiting import Waiting, Work


class TilePool:
    """A fixed number of threads that compute what is due. Nothing lingers: what comes while they are busy is merged.

    Arguments:
        experts: where tiles find their generators.
        threads: how many passes are computed at once, each by one thread.
        waited_for: is told whether rows are waited for, at every change.
        clock: seconds, which streams pay for passes with.

    Attributes:
        device: where they are computed.
        stock: rows that were made along with others.
    """

    def __init__(
        self,
        experts: ExpertCache,
        threads: int,
        waited_for: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._experts = experts
        self.device = experts.device
        self._waited_for = waited_for
        self._clock = clock
        self._busy = 0
        self.stock = Stock()
        self._waiting = Waiting(experts.signature, self.stock.spare)
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"tiles-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, stream: Hashable, job: Job) -> None:
        """Queues the tiles of a job behind those that its stream has waiting, but for those that are in stock."""
        tiles = [tile for tile in job.segment.tiles if job.exact or not self._in_stock(job, tile)]
        with self._changed:
            self._waiting.add(stream, job, tiles)
            if tiles:
                self._waited_for(True)
                self._changed.notify(len(tiles))

    def forget(self, stream: Hashable) -> None:
        """Drops the waiting tiles of a stream whose reader is gone."""
        with self._changed:
            self._waiting.drop(stream)
            if self._waiting.idle:
                self.stock.clear()

    def close(self) -> None:
        """Ends the threads after the passes that they are at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _in_stock(self, job: Job, tile: Tile) -> bool:
        rows = self.stock.take(tile, job.form)
        if rows is None:
            return False
        job.deliver(tile, rows)
        return True

    def _work(self) -> None:
        # One thread per pass: the sum of a reduction depends on how many threads share it.
        torch.set_num_threads(1)
        while works := self._next():
            begun = self._clock()
            passes.run(works, self._experts, self.stock)
            with self._changed:
                self._waiting.charge(works, self._clock() - begun)
                self._busy -= 1

    def _next(self) -> list[Work]:
        """The next pass; nothing once the pool is closed."""
        with self._changed:
            while not self._closed:
                if works := self._waiting.take():
                    self._busy += 1
                    return works
                if not self._busy:
                    self._waited_for(False)
                self._changed.wait()
            return []
