"""The sampling engine: opens streams on revisions, keeps them up to date, ends them when it must."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from dgm_core.manifest import Label, Manifest
from dgm_core.memory import Solver
from memory_server.errors import EmptyMemory, ShuttingDown, UnknownMemory
from memory_server.kinds import kind_of_memory
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.pool import TilePool
from memory_server.sampling.queries import Query
from memory_server.sampling.runtime import Trimmer
from memory_server.sampling.stock import Stock
from memory_server.sampling.stream import Stream
from memory_server.store.records import Deleted, Forgotten

T = TypeVar("T")
FindManifest = Callable[[str, int | None], Manifest]
"""(memory, revision or None for the newest) -> manifest; raises UnknownMemory, UnknownRevision. May block."""

_CLASSIFIED_AT_ONCE = 256


class SamplingEngine:
    """Serves any number of streams from one pool of threads. Belongs to one event loop.

    Arguments:
        find: finds revisions.
        experts: the generators and solvers.
        threads: how many passes over the device are computed at once; and how many of task solvers.
        waited_for: is told whether rows are waited for, at every change.
    """

    def __init__(
        self,
        find: FindManifest,
        experts: ExpertCache,
        threads: int,
        waited_for: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._find = find
        self._experts = experts
        self._pool = TilePool(experts, threads, waited_for)
        # Apart from the loop's own threads, which read the catalog, take data in and commit for everybody.
        self._solving = ThreadPoolExecutor(threads, "solving")
        self._newest: dict[str, Manifest] = {}
        self._deletions = 0
        self._streams: set[Stream] = set()
        self._trimmer = Trimmer()
        self._draining = False

    @property
    def stock(self) -> Stock:
        """Rows that were made before anybody asked."""
        return self._pool.stock

    @asynccontextmanager
    async def open(self, query: Query) -> AsyncIterator[Stream]:
        """A stream that is known to be possible; what it has under way is dropped on leaving.

        Raises:
            UnknownMemory, UnknownRevision, UnknownClass, UnknownTask, EmptyMemory: the query cannot be served.
            BadRequest: the memory cannot give x in that format.
            MissingKind: the memory is of a kind that this server does not have.
            ShuttingDown: the server is stopping.
        """
        if self._draining:
            raise _stopping()
        manifest = await self._manifest(query.memory, query.revision)
        stream = Stream(
            query,
            manifest,
            lambda: self._newest.get(query.memory, manifest),
            self._pool,
            freed=self._trimmer.ask,
        )
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            self._pool.forget(stream)

    async def newest(self, memory: str) -> Manifest:
        """The newest revision of a memory. Raises UnknownMemory, MissingKind."""
        return await self._manifest(memory, 0)

    async def classify(self, memory: str, x: Tensor, task: str | None = None) -> "Classified":
        """What the task solver of the newest revision makes of x; of whatever holds a task, if x is known to be of it.

        Raises:
            UnknownMemory, UnknownTask: there is no such memory, or task of it.
            EmptyMemory: it has learned nothing yet.
            MissingKind: it is of a kind that this server does not have.
            SolverRetraining: its solver was dropped when a task was forgotten, and is not there again yet.
        """
        manifest = await self._manifest(memory, 0)
        if not manifest.tasks:
            raise EmptyMemory(memory)
        manifest, solver = await self._computed(self._experts.solver, memory, task)
        classes = manifest.classes if task is None else solver.classes
        order = [solver.classes.index(label) for label in classes]
        parts = [await self._computed(_probabilities, solver, rows) for rows in torch.split(x, _CLASSIFIED_AT_ONCE)]
        return Classified(manifest.revision, classes, np.concatenate(parts)[:, order])

    def committed(self, memory: str, manifest: Manifest) -> None:
        """A new revision: streams that are not pinned follow it from their next batch on."""
        known = self._newest.get(memory)
        if known is None or known.revision < manifest.revision:
            self._newest[memory] = manifest

    async def forgotten(self, memory: str, forgotten: Forgotten) -> None:
        """A task is gone: streams that are pinned to it end with UnknownRevision, the others follow the new revision.

        Those that are restricted to what is gone end with UnknownTask or UnknownClass. Nothing of the task is kept.
        """
        self.committed(memory, forgotten.manifest)
        for stream in self._streams:
            if stream.query.memory == memory:
                stream.revise(forgotten.revisions)
        await asyncio.to_thread(self._forget, forgotten.experts)

    async def deleted(self, memory: str, deleted: Deleted) -> None:
        """A memory is gone: its streams end with UnknownMemory. Nothing of it is kept."""
        self._deletions += 1
        self._newest.pop(memory, None)
        for stream in self._streams:
            if stream.query.memory == memory:
                stream.end(UnknownMemory(memory, deleted.memories))
                self._pool.forget(stream)
        await asyncio.to_thread(self._forget, deleted.experts)

    def drain(self) -> None:
        """Opens no more streams and ends those that would never end by themselves."""
        self._draining = True
        for stream in self._streams:
            if stream.query.endless:
                stream.end(_stopping())

    def close(self) -> None:
        """Ends the threads. Streams must have ended."""
        self._pool.close()
        self._solving.shutdown(cancel_futures=True)

    def _forget(self, experts: frozenset[str]) -> None:
        self._experts.forget(experts)
        self._pool.forget_experts(experts)

    async def _manifest(self, memory: str, revision: int) -> Manifest:
        if revision != 0:
            return await asyncio.to_thread(self._known, memory, revision)
        while memory not in self._newest:
            deletions = self._deletions
            found = await asyncio.to_thread(self._known, memory, None)
            if deletions == self._deletions:  # else it may be of a memory that is gone, and another have its name
                self.committed(memory, found)
        return self._newest[memory]

    def _known(self, memory: str, revision: int | None) -> Manifest:
        found = self._find(memory, revision)
        kind_of_memory(memory, found)
        return found

    def _computed(self, compute: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """What is computed once a thread is free; it is not begun if whoever waits for it has gone."""
        return asyncio.get_running_loop().run_in_executor(self._solving, compute, *arguments)


@dataclass(frozen=True)
class Classified:
    """What a solver makes of x.

    Arguments:
        revision: of the memory.
        classes: in the order of the columns of `probabilities`.
        probabilities: float32.
    """

    revision: int
    classes: tuple[Label, ...]
    probabilities: Float[ndarray, "rows classes"]


def _probabilities(solver: Solver, rows: Tensor) -> Float[ndarray, "rows classes"]:
    return solver.probabilities(rows).numpy(force=True)


def _stopping() -> ShuttingDown:
    return ShuttingDown("the server is shutting down; ask again when it is back")
