"""Threads that keep the device busy, pass after pass."""

import threading
import time
from collections.abc import Callable, Hashable, Iterable

import structlog
import torch

from memory_server.sampling import passes
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.foresight import Foresight, Order
from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import Tile
from memory_server.sampling.runtime import give_way
from memory_server.sampling.stock import STALE_SECONDS, Stock
from memory_server.sampling.waiting import Waiting, Work

_log = structlog.get_logger()


class TilePool:
    """A fixed number of threads that compute what is due. Nothing lingers: what comes while they are busy is merged.

    As many others make what requests are likely to want next while one of these has nothing to do. They give way to
    them, and to the event loop, which sends what is ready.

    Arguments:
        experts: where tiles find their generators.
        threads: how many passes are computed at once, each by one thread.
        waited_for: is told whether rows are waited for, at every change.
        clock: seconds, which streams pay for passes with.

    Attributes:
        device: where they are computed.
        stock: rows that were made before anybody asked.
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
        self._most = threads
        self._busy = 0
        self.stock = Stock()
        self._foresight = Foresight(self.stock, experts.holds, clock)
        self._waiting = Waiting(experts.signature, self.stock.spare)
        self._deserted = 0.0  # when the last stream went
        lock = threading.RLock()
        self._due, self._free = threading.Condition(lock), threading.Condition(lock)
        self._closed = False
        workers = {"tiles": self._compute_what_is_due, "ahead": self._make_ahead}
        self._threads = [
            threading.Thread(target=work, name=f"{name}-{i}", daemon=True)
            for name, work in workers.items()
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, stream: Hashable, job: Job) -> None:
        """Queues the tiles of a job behind those that its stream has waiting, but for those that are in stock."""
        tiles = [tile for tile in job.segment.tiles if not self._in_stock(job, tile)]
        with self._due:
            self._foresight.note(job)
            self._waiting.add(stream, job, tiles)
            if tiles:
                self._waited_for(True)
                self._due.notify(len(tiles))

    def forget(self, stream: Hashable) -> None:
        """Drops the waiting tiles of a stream whose reader is gone."""
        with self._free:
            self._waiting.drop(stream)
            if self._waiting.deserted:
                self._deserted = self._clock()
            self._free.notify()  # what it took is made again from here on: before, that would delay its last message

    def forget_experts(self, digests: Iterable[str]) -> None:
        """Keeps and makes nothing more of experts that no memory holds any more."""
        gone = frozenset(digests)
        with self._free:
            self._foresight.forget(gone)
        self.stock.forget(gone)

    def close(self) -> None:
        """Ends the threads after the passes that they are at."""
        with self._due:
            self._closed = True
            self._due.notify_all()
            self._free.notify_all()
        for thread in self._threads:
            thread.join()

    def _in_stock(self, job: Job, tile: Tile) -> bool:
        rows = None if job.exact else self.stock.take(tile, job.form)
        if rows is None:
            return False
        job.deliver(tile, rows)
        return True

    def _compute_what_is_due(self) -> None:
        # One thread per pass: the sum of a reduction depends on how many threads share it.
        torch.set_num_threads(1)
        while works := self._next():
            begun = self._clock()
            passes.run(works, self._experts, self.stock)
            with self._free:
                self._waiting.charge(works, self._clock() - begun)
                self._busy -= 1
                if not self._waiting.tiles:
                    self._free.notify()

    def _next(self) -> list[Work]:
        """The next pass; nothing once the pool is closed."""
        with self._due:
            while not self._closed:
                if works := self._not_in_stock():
                    self._busy += 1
                    return works
                if not self._busy:
                    self._waited_for(False)
                self._due.wait()
            return []

    def _not_in_stock(self) -> list[Work]:
        """The next pass, without what has come into stock since it was asked for."""
        while works := self._waiting.take():
            if left := [work for work in works if not self._in_stock(work.job, work.tile)]:
                return left
        return []

    def _make_ahead(self) -> None:
        torch.set_num_threads(1)
        give_way()
        while order := self._ordered():
            well = False
            try:
                passes.ahead(order, self._experts, self.stock)
                well = True
            except Exception:  # whoever asks for such rows is told what is wrong with them
                _log.debug("rows_not_made_ahead", memory=order.memory, exc_info=True)
            finally:
                with self._free:
                    self._foresight.made(order, well)

    def _ordered(self) -> Order | None:
        """What to make ahead, once nothing waits and something is short; nothing once the pool is closed."""
        with self._free:
            while not self._closed:
                idle = self._busy < self._most and not self._waiting.tiles
                if idle and (order := self._foresight.next()):
                    return order
                self._free.wait(STALE_SECONDS if self.stock.nbytes else None)
                if self._waiting.deserted and self._clock() - self._deserted >= STALE_SECONDS:
                    self.stock.clear()
            return None
