"""One reader's stream of rows: a bounded number of segments ahead of the reader, packed into messages."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dgm_core.manifest import DataSpec, Label, Manifest
from memory_server.errors import MemoryServerError, UnknownRevision
from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import Plan, Repeated
from memory_server.sampling.pool import TilePool
from memory_server.sampling.queries import Query

MESSAGE_BYTES = 512 * 1024
"""A message is filled up to here with what is finished already; nothing waits for it to fill."""
LARGEST_MESSAGE_BYTES = 1024 * 1024
AHEAD_BYTES = 1024 * 1024
"""What is generated ahead of a reader once it has proved to read on; at least two segments."""
HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True)
class Opening:
    """What the rows that follow are: `spec.shape` as learned, `dtype` as sent, y indexing `classes`."""

    revision: int
    spec: DataSpec
    dtype: str
    classes: tuple[Label, ...]
    batch_size: int


@dataclass(frozen=True)
class Rows:
    """Consecutive rows from position `row` of the stream: x as the opening says, y as int32. No rows: a heartbeat."""

    row: int
    x: bytes = b""
    y: bytes = b""


class Stream:
    """Iterate it once: an `Opening`, then `Rows`, and another `Opening` whenever what it says changes.

    Arguments:
        query: what is wanted.
        manifest: the revision to begin with.
        newest: the newest revision known, which an unseeded stream follows.
        pool: computes the rows.
        heartbeat: seconds after which an empty `Rows` tells the reader that more will come.

    Raises:
        UnknownClass, UnknownTask, EmptyMemory: the manifest cannot serve the query.
    """

    def __init__(
        self,
        query: Query,
        manifest: Manifest,
        newest: Callable[[], Manifest],
        pool: TilePool,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.query = query
        self._manifest = manifest
        self._newest = newest
        self._pool = pool
        self._heartbeat = heartbeat
        self._plan = query.plan(manifest, query.drawn_seed())
        self._opening = self._opening_of(manifest, self._plan)
        self._segment, self._skip = self._plan.find(query.start_at)
        self._window: deque[tuple[Opening, Job]] = deque()  # consecutive segments up to before `_segment`
        self._allowance = 1
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: MemoryServerError) -> None:
        """Ends the stream with an error at its reader's next step."""
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # marks it as seen, should the reader leave first

    def revise(self, revisions: Collection[int]) -> None:
        """Lets go of a revision that is gone, for something was forgotten; `revisions` are those that are left.

        A stream that is pinned to it ends with UnknownRevision; one that follows makes anew what its reader has not
        been given yet, or ends with UnknownTask, UnknownClass or EmptyMemory if nothing is left of what it asked for.
        """
        if self._manifest.revision in revisions:
            return
        self._pool.forget(self)
        try:
            if not self.query.follows:
                raise UnknownRevision(self.query.memory, self._manifest.revision, revisions)
            self._begin_anew()
        except MemoryServerError as error:
            self.end(error)

    async def __aiter__(self) -> AsyncIterator[Opening | Rows]:
        """The stream; it generates no further when its reader stops reading."""
        opening = self._opening
        yield opening
        self._fill()
        while self._window:
            while not await self._ready(self._window[0][1]):
                head = self._window[0][1]
                yield Rows(head.segment.row + head.skip)
            if self._window[0][0] != opening:
                opening = self._window[0][0]
                yield opening
            for rows in messages(self._finished(opening)):
                yield rows
            self._fill()

    async def _ready(self, job: Job) -> bool:
        """Whether a job is done, after at most a heartbeat or once it is dropped. Raises what ended job or stream."""
        await asyncio.wait((job.done, self._ended), timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            self._ended.result()
        if job.done.cancelled():
            return False
        if job.done.done():
            job.done.result()
        return job.done.done()

    def _finished(self, opening: Opening) -> list[Job]:
        """Takes what is done from the head of the window: at least one job, no more than fills a message."""
        jobs = [self._window.popleft()[1]]
        size = jobs[0].x.nbytes
        while self._window and size < MESSAGE_BYTES:
            its_opening, job = self._window[0]
            if its_opening != opening or not job.done.done() or job.done.exception() is not None:
                break
            size += job.x.nbytes
            jobs.append(self._window.popleft()[1])
        return jobs

    def _fill(self) -> None:
        """Submits segments until enough is under way; the allowance doubles each time, for a reader that reads on."""
        self._allowance = min(2 * self._allowance, AHEAD_BYTES)
        while len(self._window) < 2 or self._ahead() < self._allowance:
            job = self._next()
            if job is None:
                break
            self._window.append((self._opening, job))
            self._pool.submit(self, job)

    def _begin_anew(self) -> None:
        """Submits again what is under way, by the newest revision: where segments begin is the same in all of them."""
        self._follow()
        if not self._window:
            return
        self._segment, self._skip = self._segment - len(self._window), self._window[0][1].skip
        for _, job in self._window:
            job.done.cancel()
        self._window.clear()
        self._fill()

    def _ahead(self) -> int:
        return sum(job.x.nbytes for _, job in self._window)

    def _next(self) -> Job | None:
        self._follow()
        segment = self._plan.segment(self._segment)
        if len(segment.y) <= self._skip:
            return None
        x = np.empty((len(segment.y), *self._opening.spec.shape), self._opening.dtype)
        done = asyncio.get_running_loop().create_future()
        exact, urgent = self.query.seed is not None, self.query.awaited
        job = Job(self.query.memory, self._plan.seed, exact, urgent, segment, self._skip, x, done)
        self._segment, self._skip = self._segment + 1, 0
        return job

    def _follow(self) -> None:
        """Turns to the newest revision between two segments, if this stream follows it."""
        manifest = self._newest() if self.query.follows else self._manifest
        if manifest.revision != self._manifest.revision:
            self._manifest = manifest
            self._plan = self.query.plan(manifest, self._plan.seed)
            self._opening = self._opening_of(manifest, self._plan)

    def _opening_of(self, manifest: Manifest, plan: Plan | Repeated) -> Opening:
        dtype = self.query.dtype or manifest.spec.dtype
        return Opening(manifest.revision, manifest.spec, dtype, plan.classes, plan.batch_size)


def messages(jobs: Sequence[Job]) -> Iterator[Rows]:
    """Finished jobs, which follow each other in the stream, as messages of at most 1 MiB (or one row)."""
    first = jobs[0].segment.row + jobs[0].skip
    xs, ys = [job.x[job.skip :] for job in jobs], [job.segment.y[job.skip :] for job in jobs]
    if len(jobs) > 1:
        yield Rows(first, b"".join(x.data for x in xs), b"".join(y.data for y in ys))
        return
    step = max(1, LARGEST_MESSAGE_BYTES // xs[0][0].nbytes)
    for start in range(0, len(xs[0]), step):
        part = slice(start, start + step)
        yield Rows(first + start, xs[0][part].tobytes(), ys[0][part].tobytes())
