"""The connection of an event loop: its channel, its streams, and what a failed call means."""

import asyncio
import os
import weakref
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import grpc
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub

from memory_client import _forks
from memory_client.aio._ending import Ending
from memory_client.channel import Endpoint, Patience
from memory_client.errors import ServerUnavailable, from_rpc, unanswered

T = TypeVar("T")

_LETTING_GO = 0.5
"""Seconds in which gRPC ends what a cancelled call was doing, as a rule at once."""

_Key = tuple[int, asyncio.AbstractEventLoop]


class Closable(Protocol):
    """What ends with its connection."""

    async def aclose(self) -> None:
        """Ends it; may be called more than once."""


class Silent(Exception):
    """Nothing was heard for too long."""


@dataclass(frozen=True)
class _Own:
    """What belongs to one event loop."""

    channel: grpc.aio.Channel
    stub: MemoryServiceStub
    streams: weakref.WeakSet[Closable] = field(default_factory=weakref.WeakSet)


class Connection(Endpoint):
    """Calls one server, by a channel that each event loop makes for itself when it first needs one."""

    # By process too: a forked child leaves the channel of its parent's loop alone.
    _own: dict[_Key, _Own]

    @property
    def stub(self) -> MemoryServiceStub:
        """The server's methods on the channel of the running event loop."""
        return self._of_this_loop().stub

    async def unary(self, method: str, request: Any) -> Any:
        """Calls a unary method, again for `reconnect` seconds while no server answers."""
        patience = Patience(self.reconnect)
        while True:
            try:
                with self._failures():
                    return await getattr(self.stub, method)(request, timeout=self.timeout)
            except ServerUnavailable as error:
                pause = patience.next_pause(error)
            await asyncio.sleep(pause)

    async def step(self, call: Any, awaitable: Awaitable[T], ending: Ending | None = None, patient: bool = False) -> T:
        """The outcome of one step of a call, which is cancelled if the step is.

        Arguments:
            ending: knows how the server ended a call that takes messages.
            patient: whether it may take as long as the connection is alive.

        Raises:
            Silent: it took longer than `silence` seconds.
            MemoryServiceError: the call has failed.
        """
        step = asyncio.ensure_future(awaitable)
        try:
            async with asyncio.timeout(None if patient else self.silence) as patience:
                with self._failures(ending):
                    return await asyncio.shield(step)
        except TimeoutError:
            if patience.expired():
                raise Silent from None
            raise
        finally:
            if not step.done():
                # Were the step left alone, gRPC might look for this event loop when it is closed already.
                call.cancel()
                await asyncio.wait([step], timeout=_LETTING_GO)
                # The first message of a call that has not begun yet: for its begin gRPC would wait for ever.
                step.cancel()
                await asyncio.wait([step])

    def register(self, stream: Closable) -> None:
        """Has a stream of this loop closed with the connection; it is not kept alive."""
        self._of_this_loop().streams.add(stream)

    async def close(self) -> None:
        """Ends the streams and closes the channel of the running event loop; the next call makes a new one."""
        own = self._own.pop(_key(), None)
        if own is not None:
            for stream in list(own.streams):
                await stream.aclose()
            await own.channel.close()

    def _of_this_loop(self) -> _Own:
        key = _key()
        if key not in self._own:
            _forks.check()
            for pid, loop in list(self._own):
                if pid == key[0] and loop.is_closed():
                    self._own.pop((pid, loop), None)
            channel = self.asynchronous_channel()
            self._own[key] = _Own(channel, self.methods(channel))
        return self._own[key]

    @contextmanager
    def _failures(self, ending: Ending | None = None) -> Iterator[None]:
        """Raises the error that a failed call stands for."""
        try:
            yield
        except grpc.RpcError as error:
            raise from_rpc(error if ending is None else ending.truly(error), self.target) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # gRPC says so as well where a server that shuts down has cancelled the call.
            raise unanswered(self.target, "it cancelled the call") from None


def _key() -> _Key:
    return os.getpid(), asyncio.get_running_loop()
