"""One reader's stream of rows: a bounded number of segments ahead of the reader, packed into messages."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray

from dgm_core.manifest import Label, Manifest
from memory_server.errors import MemoryServerError, UnknownRevision
from memory_server.sampling.formats import Form
from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import TILE_ROWS, Plan, Repeated
from memory_server.sampling.pool import TilePool
from memory_server.sampling.queries import Query
from memory_server.sampling.stock import STREAM_BYTES

MESSAGE_BYTES = 512 * 1024
"""A message is filled up to here with what is finished already; nothing waits for it to fill."""
LARGEST_MESSAGE_BYTES = 768 * 1024
"""A reader that stalls holds two messages: what is being sent, and the copy of it that gRPC makes."""
AHEAD_BYTES = 1024 * 1024
"""What is generated ahead of a reader once it has proved to read on; at least two segments."""
STALL_SECONDS = 1.0
"""A reader that does not take a message for so long keeps nothing ahead of it: there may be many like it."""
HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True)
class Opening:
    """What the rows that follow are: x in that form, y indexing `classes`."""

    revision: int
    form: Form
    classes: tuple[Label, ...]
    batch_size: int


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of what is wanted, from position `row` of the stream on. No rows: a heartbeat.

    Arguments:
        x: C-contiguous arrays (rows, *shape) that follow each other, as the opening says; they are not copied together
            here, for their bytes go to one of several places.
        y: int32 of each row.
    """

    row: int
    x: tuple[ndarray, ...] = ()
    y: bytes = b""


class _Due(NamedTuple):
    """A segment that is under way, and what is true of it."""

    opening: Opening
    segment: int
    job: Job


class Message(NamedTuple):
    """Rows that are finished and were not given yet, and the first segment that they are from."""

    segment: int
    rows: Rows


class Stream:
    """Iterate it once: an `Opening`, then `Rows`, and another `Opening` whenever what it says changes.

    Arguments:
        query: what is wanted.
        manifest: the revision to begin with.
        newest: the newest revision known, which an unseeded stream follows.
        pool: computes the rows.
        heartbeat: seconds after which an empty `Rows` tells the reader that more will come.
        freed: is told when what was made ahead of a reader that has stalled is freed.

    Raises:
        UnknownClass, UnknownTask, EmptyMemory: the manifest cannot serve the query.
        BadRequest: x cannot be given in the format that is wanted.
    """

    def __init__(
        self,
        query: Query,
        manifest: Manifest,
        newest: Callable[[], Manifest],
        pool: TilePool,
        heartbeat: float = HEARTBEAT_SECONDS,
        freed: Callable[[], None] = lambda: None,
    ) -> None:
        self.query = query
        self._manifest = manifest
        self._newest = newest
        self._pool = pool
        self._heartbeat = heartbeat
        self._freed = freed
        self._plan = query.plan(manifest, query.drawn_seed())
        self._opening = self._opening_of(manifest, self._plan)
        self._wanted = query.wanted
        self._segment = self._plan.find(query.start_at)
        self._window: deque[_Due] = deque()  # consecutive wanted segments up to before `_segment`
        self._finished: deque[Message] = deque()  # what comes before the window
        self._row = 0  # where to go on in a segment of which some rows were given
        self._allowance = 1
        self._spare = 1
        self._over = False  # whether all that is wanted is under way, or given
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
        self._fill()  # first: rows are computed while the opening is on its way
        opening = self._window[0].opening if self._window else self._opening
        letting_go = self._soon_let_go()
        yield opening
        letting_go.cancel()
        self._fill()
        while self._window:
            while not await self._ready(self._window[0].job):
                yield Rows(max(self._row, self._window[0].job.part.position))
            if self._window[0].opening != opening:
                opening = self._window[0].opening
                yield opening
            self._finish(opening)
            while self._finished:  # nothing is kept of what is given: a reader may stall for long
                letting_go = self._soon_let_go()
                yield await self._formed(self._finished.popleft().rows, opening.form)
                letting_go.cancel()
                self._raise_if_ended()
            self._fill()

    async def _ready(self, job: Job) -> bool:
        """Whether a job is done, after at most a heartbeat or once it is dropped. Raises what ended job or stream."""
        if not job.done.done():
            await asyncio.wait((job.done, self._ended), timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED)
        self._raise_if_ended()
        if job.done.cancelled():
            return False
        if job.done.done():
            job.done.result()
        return job.done.done()

    def _raise_if_ended(self) -> None:
        if self._ended.done():
            self._ended.result()

    def _finish(self, opening: Opening) -> None:
        """Takes what is done from the head of the window: at least one job, no more than fills a message."""
        row = opening.form.nbytes
        taken = [self._window.popleft()]
        size = len(taken[0].job.part.rows) * row
        while self._window and size < MESSAGE_BYTES:
            its_opening, _, job = self._window[0]
            if its_opening != opening or not job.done.done() or job.done.exception() is not None:
                break
            size += len(job.part.rows) * row
            taken.append(self._window.popleft())
        self._finished.extend(one for one in messages(taken, row) if one.rows.row >= self._row)

    async def _formed(self, rows: Rows, form: Form) -> Rows:
        """The rows in the form in which they are sent, which those that would take much room have only from here on."""
        if form.generated is form:
            return rows
        return await asyncio.to_thread(_formed, rows, form, self._pool.device)

    def _fill(self) -> None:
        """Submits segments until enough is under way; the allowance doubles each time, for a reader that reads on."""
        self._allowance = min(2 * self._allowance, AHEAD_BYTES)
        while not self._over and (len(self._window) < 2 or self._ahead() < self._allowance):
            number, job = self._segment, self._next()
            if job is None:
                self._over = True
                break
            self._window.append(_Due(self._opening, number, job))
            self._pool.submit(self, job)

    def _begin_anew(self) -> None:
        """Submits again what is under way, by the newest revision: where segments begin is the same in all of them."""
        self._follow()
        if self._finished or self._window:
            self._drop()
            self._fill()

    def _soon_let_go(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(STALL_SECONDS, self._let_go)

    def _let_go(self) -> None:
        """Drops what is ahead of a reader that has stalled; if it reads on, the same bits are computed again."""
        if self._finished or self._window:
            self._pool.forget(self)
            self._allowance = self._spare = 1
            self._drop()
            self._freed()

    def _drop(self) -> None:
        self._over = False
        self._segment = (self._finished or self._window)[0].segment
        if self._finished:
            self._row = self._finished[0].rows.row
            self._finished.clear()
        for due in self._window:
            due.job.done.cancel()
        self._window.clear()

    def _ahead(self) -> int:
        return sum(due.job.x.nbytes for due in self._window)

    def _next(self) -> Job | None:
        self._follow()
        part = self._wanted.part(self._plan.segment(self._segment), self._plan.batch_size)
        if len(part.rows) == 0:
            return None
        form = self._opening.form.generated
        x = np.empty((len(part.segment.y), *form.shape), form.dtype)
        done = asyncio.get_running_loop().create_future()
        exact, urgent = self.query.exact, self.query.awaited
        spare = 0 if exact or urgent else self._spare_rows(form.nbytes, part.segment.row)
        self._segment = self._following(self._segment)
        return Job(self.query.memory, self._plan.seed, exact, urgent, spare, part, form, x, done)

    def _spare_rows(self, row_bytes: int, row: int) -> int:
        """How many rows of an expert are made at a time; twice as many each time, for a reader that reads on."""
        self._spare = min(2 * self._spare, TILE_ROWS)
        return min(self._spare, self._plan.rows_each(row, STREAM_BYTES // row_bytes))

    def _following(self, segment: int) -> int:
        """The next segment with a batch that is wanted."""
        batches = self._plan.batches(segment + 1)
        batch = self._wanted.after(batches.start)
        return segment + 1 if batch in batches else self._plan.find(batch)

    def _follow(self) -> None:
        """Turns to the newest revision between two segments, if this stream follows it."""
        manifest = self._newest() if self.query.follows else self._manifest
        if manifest.revision != self._manifest.revision:
            self._manifest = manifest
            self._plan = self.query.plan(manifest, self._plan.seed)
            self._opening = self._opening_of(manifest, self._plan)

    def _opening_of(self, manifest: Manifest, plan: Plan | Repeated) -> Opening:
        return Opening(manifest.revision, self.query.format.of(manifest.spec), plan.classes, plan.batch_size)


def messages(dues: Sequence[_Due], row_bytes: int) -> Iterator[Message]:
    """Finished segments, which follow each other in what is sent, as messages of at most 768 KiB, or of one row."""
    pieces = [(number, job.part, job.part.of(job.x), job.part.of(job.segment.y)) for _, number, job in dues]
    if sum(len(y) for *_, y in pieces) * row_bytes <= LARGEST_MESSAGE_BYTES:
        together = Rows(pieces[0][1].position, tuple(x for _, _, x, _ in pieces), b"".join(y.data for *_, y in pieces))
        yield Message(pieces[0][0], together)
        return
    step = max(1, LARGEST_MESSAGE_BYTES // row_bytes)
    for number, part, x, y in pieces:
        for start in range(0, len(y), step):
            cut = slice(start, start + step)
            yield Message(number, Rows(part.segment.row + int(part.rows[start]), (x[cut],), y[cut].tobytes()))


def _formed(rows: Rows, form: Form, device: torch.device) -> Rows:
    return replace(
        rows, x=tuple(form.of(torch.from_numpy(x).to(device)).contiguous().numpy(force=True) for x in rows.x)
    )
