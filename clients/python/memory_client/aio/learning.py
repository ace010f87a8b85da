"""Teaching a task on an event loop: the upload, and the handle by which a task is followed and ended."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from contextlib import aclosing
from typing import Any

from memory_api.v1 import memory_pb2 as pb

from memory_client import _decode
from memory_client._lesson import Lesson, Resending, goes_on, learned, not_in_time, not_reported, watching
from memory_client.aio._outbox import Outbox
from memory_client.aio._reading import Reading, persistent
from memory_client.aio.channel import Connection
from memory_client.errors import (
    InvalidInput,
    ServerBusy,
    ServerUnavailable,
    UnknownMemory,
    as_rejection,
)
from memory_client.progress import ProgressListener, Quiet
from memory_client.types import Task, TaskState, Until


class TaskHandle:
    """See `memory_client.TaskHandle`; what is a property there is awaited here."""

    def __init__(self, connection: Connection, memory: str, name: str) -> None:
        self._connection = connection
        self.memory = memory
        self.name = name

    def __repr__(self) -> str:
        return f"TaskHandle({self._connection.target!r}, memory={self.memory!r}, name={self.name!r})"

    async def task(self) -> Task:
        """The task as it is now. Raises UnknownTask, UnknownMemory."""
        request = pb.GetTaskRequest(memory=self.memory, task=self.name)
        return _decode.task(await self._connection.unary("GetTask", request))

    async def state(self) -> TaskState:
        """Where the task stands now."""
        return (await self.task()).state

    def watch(self, *, until: Until = "final") -> Reading[Task]:
        """The task now, then whenever it changes, until its final state; see `memory_client.TaskHandle.watch`."""
        connection, request = self._connection, watching(self.memory, self.name, until)
        return Reading(
            connection, lambda: persistent(connection, lambda: connection.stub.WatchTask(request), _decoded), 2
        )

    async def result(self, timeout: float | None = None) -> Task:
        """Waits until the task is learned; cancelling the wait leaves it running.

        See `memory_client.TaskHandle.result`.
        """
        return await self._follow(Quiet().task, timeout)

    async def cancel(self) -> Task:
        """Cancels the task and has its data wiped. Raises TaskFinished when it is too late."""
        request = pb.CancelTaskRequest(memory=self.memory, task=self.name)
        return _decode.task(await self._connection.unary("CancelTask", request))

    async def show(self, listener: ProgressListener) -> Task:
        """Like `result`, telling a listener what happens; an interrupt leaves the task running and says so."""
        try:
            return await self._follow(listener.task, None)
        except asyncio.CancelledError as interrupt:
            interrupt.add_note(goes_on(self.name, self._connection.target))
            raise
        finally:
            listener.close()

    async def _follow(self, seen: Callable[[Task], None], timeout: float | None) -> Task:
        try:
            async with asyncio.timeout(timeout) as limit, self.watch() as snapshots:
                async for task in snapshots:
                    seen(task)
                    if task.state.final:
                        return learned(task)
                closed = snapshots.closed
        except TimeoutError:
            if timeout is None or not limit.expired():
                raise
            raise not_in_time(self.name, timeout) from None
        raise not_reported(self.name, closed)


class Upload:
    """Sends one task. A stream that is not asynchronous is iterated by a thread, so that the event loop goes on.

    Arguments:
        header: what is said before the data; its spec is filled in from the first batch.
        listener: told how much has been sent.
    """

    def __init__(self, connection: Connection, header: pb.LearnTaskHeader, listener: ProgressListener) -> None:
        self._connection = connection
        self._header = header
        self._listener = listener

    async def send(self, stream: Any) -> Task:
        """Uploads a stream, again while the server is busy or away, if the stream can be iterated again.

        Raises:
            TaskRejected: the server refused the data.
            InvalidInput: the data cannot be sent.
            ServerBusy, ServerUnavailable: it stayed so for `reconnect` seconds, or the stream can be read only once.
        """
        resending = Resending(stream, self._connection.reconnect)
        await self._knock()
        while True:
            try:
                return await self._attempt(stream)
            except (ServerBusy, ServerUnavailable) as error:
                pause = resending.next_pause(error)
            await asyncio.sleep(pause)

    async def _knock(self) -> None:
        """Sees that a server answers before a stream that can be read only once is touched."""
        with contextlib.suppress(UnknownMemory):
            await self._connection.unary("GetMemory", pb.GetMemoryRequest(name=self._header.memory, brief=True))

    async def _attempt(self, stream: Any) -> Task:
        async with aclosing(self._messages(stream)) as messages:
            first = await anext(messages)  # before the call is made: what is no batch costs none
            outbox: Outbox[pb.Task] = Outbox(self._connection, self._connection.stub.LearnTask)
            try:
                going_on = await outbox.put(first)
                while going_on and (message := await anext(messages, None)) is not None:
                    going_on = await outbox.put(message)
                return _decode.task(await outbox.reply())
            except InvalidInput as error:
                if error.status is None:
                    raise
                raise as_rejection(error) from None
            finally:
                outbox.close()

    async def _messages(self, stream: Any) -> AsyncGenerator[pb.LearnTaskRequest, None]:
        lesson = Lesson(self._header, self._listener)
        if isinstance(stream, AsyncIterable):
            async for pair in stream:
                for message in lesson.add(pair):
                    yield message
            for message in lesson.finish():
                yield message
        else:
            messages = lesson.of(stream)
            while (following := await asyncio.to_thread(_next, messages)) is not None:
                yield following


def _next(messages: Iterator[pb.LearnTaskRequest]) -> pb.LearnTaskRequest | None:
    return next(messages, None)


def _decoded(message: pb.Task) -> Iterator[Task]:
    yield _decode.task(message)
