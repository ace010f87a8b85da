"""Threads that keep the device busy, pass after pass."""

import threading
from collections.abc import Hashable

import torch

from memory_server.sampling import passes
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.jobs import Job
from memory_server.sampling.waiting import Waiting, Work


class TilePool:
    """A fixed number of threads that compute what is due. Nothing lingers: what comes while they are busy is merged.

    Arguments:
        experts: where tiles find their generators.
        threads: how many passes are computed at once, each by one thread.
    """

    def __init__(self, experts: ExpertCache, threads: int) -> None:
        self._experts = experts
        self._waiting = Waiting(experts.form)
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"tiles-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, stream: Hashable, job: Job) -> None:
        """Queues the tiles of a job behind those that its stream has waiting."""
        with self._changed:
            self._waiting.add(stream, job)
            self._changed.notify(len(job.segment.tiles))

    def forget(self, stream: Hashable) -> None:
        """Drops the waiting tiles of a stream whose reader is gone."""
        with self._changed:
            self._waiting.drop(stream)

    def close(self) -> None:
        """Ends the threads after the passes that they are at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        # One thread per pass: the sum of a reduction depends on how many threads share it.
        torch.set_num_threads(1)
        while works := self._next():
            passes.run(works, self._experts)

    def _next(self) -> list[Work]:
        """The next pass; nothing once the pool is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return []
                if works := self._waiting.take():
                    return works
