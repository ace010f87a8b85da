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
from memory_server.sampling.stock import STALE_SECONDS, Stock
from memory_server.sampling.waiting import Waiting, Work

_log = structlog.get_logger()


class TilePool:
    """A fixed number of threads that compute what is due. Nothing lingers: what comes while they are busy is merged.

    Where nothing is due, they make what requests are likely to want next.

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
        self._busy = 0
        self.stock = Stock()
        self._foresight = Foresight(self.stock, experts.holds, clock)
        self._waiting = Waiting(experts.signature, self.stock.spare)
        self._deserted = 0.0  # when the last stream went
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"tiles-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, stream: Hashable, job: Job) -> None:
        """Queues the tiles of a job behind those that its stream has waiting, but for those that are in stock."""
        tiles = [tile for tile in job.segment.tiles if not self._in_stock(job, tile)]
        with self._changed:
            self._foresight.note(job)
            self._waiting.add(stream, job, tiles)
            if tiles:
                self._waited_for(True)
            self._changed.notify(max(1, len(tiles)))

    def forget(self, stream: Hashable) -> None:
        """Drops the waiting tiles of a stream whose reader is gone."""
        with self._changed:
            self._waiting.drop(stream)
            if self._waiting.idle:
                self._deserted = self._clock()

    def forget_experts(self, digests: Iterable[str]) -> None:
        """Keeps and makes nothing more of experts that no memory holds any more."""
        gone = frozenset(digests)
        with self._changed:
            self._foresight.forget(gone)
        self.stock.forget(gone)

    def close(self) -> None:
        """Ends the threads after the passes that they are at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _in_stock(self, job: Job, tile: Tile) -> bool:
        rows = None if job.exact else self.stock.take(tile, job.form)
        if rows is None:
            return False
        job.deliver(tile, rows)
        return True

    def _work(self) -> None:
        # One thread per pass: the sum of a reduction depends on how many threads share it.
        torch.set_num_threads(1)
        while wanted := self._next():
            if isinstance(wanted, Order):
                self._make_ahead(wanted)
            else:
                self._compute(wanted)

    def _compute(self, works: list[Work]) -> None:
        begun = self._clock()
        passes.run(works, self._experts, self.stock)
        with self._changed:
            self._waiting.charge(works, self._clock() - begun)
            self._busy -= 1

    def _make_ahead(self, order: Order) -> None:
        well = False
        try:
            passes.ahead(order, self._experts, self.stock)
            well = True
        except Exception:  # whoever asks for such rows is told what is wrong with them
            _log.debug("rows_not_made_ahead", memory=order.memory, exc_info=True)
        finally:
            with self._changed:
                self._foresight.made(order, well)

    def _next(self) -> list[Work] | Order | None:
        """The next pass, or if none is due what may be made ahead; nothing once the pool is closed."""
        with self._changed:
            while not self._closed:
                if works := self._due():
                    self._busy += 1
                    return works
                if not self._busy:
                    self._waited_for(False)
                if order := self._foresight.next():
                    return order
                self._changed.wait(STALE_SECONDS if self.stock.nbytes else None)
                if self._waiting.idle and self._clock() - self._deserted >= STALE_SECONDS:
                    self.stock.clear()
            return None

    def _due(self) -> list[Work]:
        """The next pass, without what has come into stock since it was asked for."""
        while works := self._waiting.take():
            if left := [work for work in works if not self._in_stock(work.job, work.tile)]:
                return left
        return []
