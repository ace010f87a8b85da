"""The hand-over between a task that reads a server stream ahead and the caller who awaits from it.

The task runs ahead by a few items and no more, and does not outlive its reader: closing, dropping or cancelling the
reader ends the task and its call.
"""

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Self, TypeVar

import grpc

from memory_client.aio.channel import Connection, Silent
from memory_client.channel import Patience
from memory_client.errors import ServerUnavailable, unpicklable

T = TypeVar("T")
Source = Callable[[], AsyncGenerator[T, None]]
"""What the task iterates."""


@dataclass(frozen=True)
class _End:
    """The last thing in a queue: nothing follows, or a failure."""

    failure: Exception | None = None


class Reading(Generic[T]):
    """An asynchronous iterator over what a background task reads; nothing is called before its first item is awaited.

    Cancelling whoever awaits an item ends the stream.

    Arguments:
        connection: ends it when it is closed.
        source: gives the items.
        depth: items that may wait for the caller.
    """

    def __init__(self, connection: Connection, source: Source[T], depth: int) -> None:
        self._connection = connection
        self._source = source
        self._arrived: asyncio.Queue[T | _End] = asyncio.Queue(depth)
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._begin()
        try:
            item = await self._arrived.get()
        except asyncio.CancelledError:
            self._shut()
            raise
        if not isinstance(item, _End):
            return item
        self._arrived.put_nowait(item)  # for whoever asks next
        if item.failure is not None:
            raise item.failure
        raise StopAsyncIteration

    @property
    def closed(self) -> bool:
        """Whether it was closed, by itself or with its memory."""
        return self._closed

    async def aclose(self) -> None:
        """Ends the stream, its task and its call; the next item is StopAsyncIteration."""
        self._shut()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __reduce__(self) -> NoReturn:
        raise unpicklable()

    def _begin(self) -> None:
        if self._task is None and self._arrived.empty():
            self._connection.register(self)
            loop = asyncio.get_running_loop()
            # The task must not hold this iterator: a reader who drops it is how most streams end.
            self._task = loop.create_task(_read(self._source, self._arrived), name="memory-stream")
            weakref.finalize(self, _cancel, loop, self._task).atexit = False

    def _shut(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        while not self._arrived.empty():
            self._arrived.get_nowait()
        self._arrived.put_nowait(_End())


async def persistent(
    connection: Connection,
    open_call: Callable[[], Any],
    decode: Callable[[Any], Iterator[T]],
    complete: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[T, None]:
    """Items of a server stream that is reopened where it broke, for `reconnect` seconds after the last message.

    Arguments:
        open_call: opens the stream at the present position.
        decode: turns one message into items.
        complete: whether all that was asked for has come, so that a call that breaks after it is at its end.
    """
    patience = Patience(connection.reconnect)
    while True:
        call = open_call()
        try:
            while (message := await connection.step(call, call.read())) is not grpc.aio.EOF:
                patience.renew()
                for item in decode(message):
                    yield item
            return
        except Silent:
            raise connection.silent() from None
        except ServerUnavailable as error:
            if complete():
                return
            pause = patience.next_pause(error)
        finally:
            call.cancel()
        await asyncio.sleep(pause)


async def _read(source: Source[T], arrived: "asyncio.Queue[T | _End]") -> None:
    failure = None
    try:
        async with aclosing(source()) as items:
            async for item in items:
                await arrived.put(item)
    except Exception as error:  # whatever it is, it is the reader's
        failure = error
    await arrived.put(_End(failure))


def _cancel(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    with contextlib.suppress(RuntimeError):  # the loop has been closed, and has cancelled its tasks
        loop.call_soon_threadsafe(task.cancel)  # a garbage collector may run in any thread
