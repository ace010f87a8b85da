"""The RPCs. Each method translates: decode, call, encode."""
# ruff: noqa: N802 - the methods are named as in memory.proto

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import grpc
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceServicer

from dgm_core.manifest import Blobs, Label, Manifest
from dgm_core.style.library import Library
from memory_server.codec import answers, imports, queries, requests, transfers
from memory_server.codec.upload import HEADER, Header, Upload, foundation
from memory_server.errors import (
    BadRequest,
    MemoryExists,
    MemoryMismatch,
    ServerBusy,
    ShuttingDown,
    SolverRetraining,
    UnknownMemory,
)
from memory_server.kinds import kind_of_memory
from memory_server.learning.admission import IngestBudget
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.queue import TaskQueue
from memory_server.sampling.engine import SamplingEngine
from memory_server.sampling.ring import Offer, opened
from memory_server.security.rights import CLIENT
from memory_server.store.arrival import Arrival
from memory_server.store.datadir import DataDir
from memory_server.store.records import MemoryRecord, TaskRecord

T = TypeVar("T")

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Limits:
    """What one call may ask for.

    Arguments:
        samples: rows of one Sample or Interpolate call.
        shared_memory: whether rows may be put into memory that a client on this host offers.
    """

    samples: int
    shared_memory: bool


class MemoryService(MemoryServiceServicer):
    """The service of `memory.proto`, whose comments are its reference.

    Arguments:
        store: what memories and tasks there are.
        bases: what a new memory may stand on.
        budget: admits raw data.
        queue: learns.
        engine: samples.
        limits: on single calls.
    """

    def __init__(
        self,
        store: DataDir,
        bases: Library,
        budget: IngestBudget,
        queue: TaskQueue,
        engine: SamplingEngine,
        limits: Limits,
    ) -> None:
        self._store = store
        self._catalog = store.catalog
        self._bases = bases
        self._budget = budget
        self._queue = queue
        self._engine = engine
        self._limits = limits
        self._draining = False
        self._arriving: Arrival | None = None

    def drain(self) -> None:
        """Takes in no more data and ends the watches; what is unary goes on."""
        self._draining = True

    # Memories

    async def CreateMemory(self, request: pb.CreateMemoryRequest, _: Context) -> pb.Memory:
        """See memory.proto."""
        return answers.memory(await asyncio.to_thread(self._created, request))

    async def GetMemory(self, request: pb.GetMemoryRequest, _: Context) -> pb.Memory:
        """See memory.proto."""
        record = await asyncio.to_thread(self._catalog.memory, request.name)
        kind_of_memory(request.name, record.manifest)
        return answers.memory(record) if request.brief else answers.analysed_memory(record)

    async def ListMemories(self, _request: pb.ListMemoriesRequest, _: Context) -> pb.ListMemoriesResponse:
        """See memory.proto."""
        return pb.ListMemoriesResponse(memories=map(answers.memory, await asyncio.to_thread(self._catalog.memories)))

    async def DeleteMemory(self, request: pb.DeleteMemoryRequest, _: Context) -> pb.DeleteMemoryResponse:
        """See memory.proto."""
        await self._queue.delete(request.name)
        return pb.DeleteMemoryResponse()

    # Tasks

    async def LearnTask(self, messages: AsyncIterator[pb.LearnTaskRequest], context: Context) -> pb.Task:
        """See memory.proto."""
        if self._draining:
            raise _stopping()
        header = Header.decode(_header(await anext(messages, None)))
        manifest, known = await asyncio.to_thread(self._expected, header)
        buffer = IngestBuffer(header.incoming.spec, self._budget.reserve(CLIENT.get()))
        record, content = await self._received(Upload(header, known), buffer, messages, manifest, context)
        try:
            return answers.task(await self._queue.submit(record, buffer, header.terms, manifest, content))
        except MemoryExists as error:  # another task made it while the data of this one arrived
            raise MemoryMismatch(str(error)) from error

    async def GetTask(self, request: pb.GetTaskRequest, _: Context) -> pb.Task:
        """See memory.proto."""
        return answers.task(await self._queue.status(request.memory, request.task))

    async def ListTasks(self, request: pb.ListTasksRequest, _: Context) -> pb.ListTasksResponse:
        """See memory.proto."""
        return pb.ListTasksResponse(tasks=map(answers.task, await self._queue.tasks(request.memory)))

    async def WatchTask(self, request: pb.WatchTaskRequest, _: Context) -> AsyncIterator[pb.Task]:
        """See memory.proto."""
        async for status in self._queue.watch(request.memory, request.task, request.until_consolidated):
            yield answers.task(status)

    async def CancelTask(self, request: pb.CancelTaskRequest, _: Context) -> pb.Task:
        """See memory.proto."""
        return answers.task(await self._queue.cancel(request.memory, request.task))

    async def ForgetTask(self, request: pb.ForgetTaskRequest, _: Context) -> pb.Memory:
        """See memory.proto."""
        await self._queue.forget(request.memory, request.task)
        return answers.memory(await asyncio.to_thread(self._catalog.memory, request.memory))

    async def Sleep(self, request: pb.SleepRequest, _: Context) -> AsyncIterator[pb.SleepResponse]:
        """See memory.proto."""
        async for status in self._queue.sleep(request.memory):
            if not status.final:
                yield answers.sleep(status)
        yield answers.slept(await asyncio.to_thread(self._catalog.memory, request.memory))

    # Between servers

    async def ExportMemory(self, request: pb.ExportMemoryRequest, _: Context) -> AsyncIterator[pb.ExportMemoryResponse]:
        """See memory.proto."""
        portable = await asyncio.to_thread(self._catalog.export_memory, request.memory)
        yield transfers.export_header(portable)
        pieces = transfers.exported(request.memory, portable, self._store.blobs)
        while (message := await asyncio.to_thread(next, pieces, None)) is not None:
            yield message

    async def ImportMemory(self, messages: AsyncIterator[pb.ImportMemoryRequest], context: Context) -> pb.Memory:
        """See memory.proto."""
        if self._draining:
            raise _stopping()
        name = transfers.import_name(await anext(messages, None))
        if await asyncio.to_thread(self._present, name) is not None:
            raise MemoryExists(f"there is a memory {name!r} already; choose another name, or delete that one first")
        async with self._only_arrival() as arrival:
            await _welcome(context)
            async for message in messages:
                if self._draining:
                    raise _stopping()
                await asyncio.to_thread(arrival.feed, transfers.import_chunk(message))
            await asyncio.to_thread(imports.check, arrival.finish(), arrival.blobs, self._bases)
            return answers.memory(await self._queue.take_in(partial(arrival.keep, name)))

    # Samples, as `answers.Samples`: the interceptor writes them, protobuf would copy more

    def Sample(self, request: pb.SampleRequest, context: Context) -> AsyncIterator[Any]:
        """See memory.proto."""
        query = queries.sample_query(request, self._limits.samples)
        return answers.samples(self._engine.open(query), opened(self._offer(request, context)))

    def Interpolate(self, request: pb.InterpolateRequest, context: Context) -> AsyncIterator[Any]:
        """See memory.proto."""
        query = queries.blend_query(request, self._limits.samples)
        return answers.samples(self._engine.open(query), opened(self._offer(request, context)))

    async def Classify(self, request: pb.ClassifyRequest, _: Context) -> pb.ClassifyResponse:
        """See memory.proto."""
        x = requests.classify_rows(request, await self._engine.newest(request.memory))
        try:
            return answers.classification(await self._engine.classify(request.memory, x, request.task or None))
        except SolverRetraining as error:  # the queue knows for how long
            raise SolverRetraining(request.memory, self._queue.solver_due(request.memory)) from error

    def _offer(self, request: pb.SampleRequest | pb.InterpolateRequest, context: Context) -> Offer | None:
        return queries.offer(request, context.peer()) if self._limits.shared_memory else None

    async def _received(
        self,
        upload: Upload,
        buffer: IngestBuffer,
        messages: AsyncIterator[pb.LearnTaskRequest],
        manifest_if_new: Manifest | None,
        context: Context,
    ) -> tuple[TaskRecord, Blobs]:
        """Takes in the data of a task up to its finish; if anything goes wrong, all that had arrived is wiped.

        Returns the task, and what the memory stands on that it makes.
        """
        try:
            await _welcome(context)
            async for message in messages:
                if self._draining:
                    raise _stopping()
                if message.WhichOneof("message") != "chunk":
                    record = await _finished(upload, message, messages)
                    return record, await asyncio.to_thread(self._foundation, manifest_if_new)
                await asyncio.to_thread(_take, upload, buffer, message.chunk)
            raise BadRequest("finish", "the stream ended without its finish: this task never happened; send it again")
        except BaseException:
            # Shielded: a caller that goes away twice must not keep the data alive.
            await asyncio.shield(asyncio.to_thread(buffer.wipe))
            raise

    def _created(self, request: pb.CreateMemoryRequest) -> MemoryRecord:
        present = self._present(request.name)
        if present is not None:
            kind_of_memory(request.name, present)
        name, wanted = requests.new_memory(request, self._bases_of(present))
        if present is None:
            with suppress(MemoryExists):  # made just now by another call
                return self._store.create_memory(name, wanted, foundation(wanted, self._bases))
        record = self._catalog.memory(name)
        requests.check_identical(request, wanted, record.manifest)
        return record

    def _expected(self, header: Header) -> tuple[Manifest | None, list[Label]]:
        """The memory that a task makes, None if it is there and as the header expects; and the classes known to it."""
        present = self._present(header.memory)
        if present is None:
            made = header.manifest(self._bases)
            header.check_repeated(made.kind, [])
            return made, []
        kind_of_memory(header.memory, present)
        tasks = [task for task in self._catalog.tasks(header.memory) if not task.state.retryable]
        known = [label for task in tasks for label in task.classes]
        header.check(present, known, self._bases_of(present) if header.options else self._bases)
        header.check_repeated(present.kind, [task.task for task in tasks])
        return None, known

    @asynccontextmanager
    async def _only_arrival(self) -> AsyncIterator[Arrival]:
        """A memory that is imported inside the block. Raises ServerBusy while there is another."""
        if self._arriving is not None:
            raise ServerBusy("another memory is being imported", self._arriving.seconds_left)
        self._arriving = self._store.arrival()
        block = ExitStack()
        try:
            yield block.enter_context(self._arriving)
        finally:
            self._arriving = None
            # In a thread: a caller that goes away may leave one behind that still writes, for which the end waits.
            await asyncio.shield(asyncio.to_thread(block.close))

    def _present(self, memory: str) -> Manifest | None:
        try:
            return self._catalog.manifest(memory)
        except UnknownMemory:
            return None

    def _bases_of(self, present: Manifest | None) -> Library:
        """The bases that may be named for a memory: its own is known to it, whatever became of the file since."""
        if present is None or not present.base:
            return self._bases
        return self._bases.ahead(self._store.blobs[present.base])

    def _foundation(self, manifest_if_new: Manifest | None) -> Blobs:
        return {} if manifest_if_new is None else foundation(manifest_if_new, self._bases, HEADER)


async def _welcome(context: Context) -> None:
    """Has the client send what its header was about: the headers of the answer say that it is accepted."""
    await context.send_initial_metadata(())


def _header(message: pb.LearnTaskRequest | None) -> pb.LearnTaskHeader:
    if message is None or message.WhichOneof("message") != "header":
        raise BadRequest("header", "the first message must be the header; send it before any data")
    return message.header


def _take(upload: Upload, buffer: IngestBuffer, chunk: pb.LearnTaskChunk) -> None:
    x, y = upload.chunk(chunk)
    buffer.append(x.data, y)
    if x.flags.writeable:  # a copy, which numpy keeps as it is if it is small; else a view of the message
        x.fill(0)


async def _finished(
    upload: Upload, message: pb.LearnTaskRequest, messages: AsyncIterator[pb.LearnTaskRequest]
) -> TaskRecord:
    if message.WhichOneof("message") != "finish":
        raise BadRequest(message.WhichOneof("message") or "message", "after the header come chunks, then one finish")
    if await anext(messages, None) is not None:
        raise BadRequest("finish", "nothing may follow the finish; begin another stream for another task")
    return upload.finish(message.finish)


def _stopping() -> ShuttingDown:
    return ShuttingDown("the server is shutting down; send the task again when it is back")
