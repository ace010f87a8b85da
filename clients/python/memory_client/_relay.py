"""The hand-over between a thread that reads a server stream and the caller who takes from it.

The thread runs ahead by a few items and no more. The caller notices within `silence` seconds that nothing is heard any
more, and can end it all at any moment: no per-message deadline is needed, and no thread outlives its reader.
"""

import contextlib
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, NoReturn, Self, TypeVar

import grpc

from memory_client import _forks
from memory_client.channel import Connection, Endpoint, Patience
from memory_client.errors import ForkedWhileStreaming, ServerUnavailable, from_rpc, unpicklable

T = TypeVar("T")
Source = Callable[["Relay[Any]"], Iterator[T]]
"""What the thread runs: it opens calls by `relay.messages` and yields what the caller shall take."""


class Closed(Exception):
    """The caller wants no more; ends the reading thread."""


class Interrupted(Exception):
    """The call was broken off, so that this process could be forked."""


class _Call:
    """An open call, and whether threads are inside of gRPC for it: the reader's, or the one gRPC has for its events.

    Arguments:
        resumes: whether the reader goes on with another call when this one is broken off.
    """

    def __init__(self, call: Any, resumes: bool) -> None:
        self._call = call
        self._resumes = resumes
        self._asking = False
        self._cancelled = False
        self._done = False
        self.interrupted = False
        call.add_done_callback(self._end)  # by gRPC's thread, with the last event of a call that reads nothing

    def __iter__(self) -> Iterator[Any]:
        messages = iter(self._call)
        while True:
            self._asking = True
            try:
                message = next(messages)
            except StopIteration:
                return
            finally:
                self._asking = False
            yield message

    @property
    def open(self) -> bool:
        return self._asking or not self._done

    def cancel(self) -> None:
        self._cancelled = True
        self._call.cancel()

    def interrupt(self) -> bool:
        if self._resumes:
            self.interrupted = True
            self.cancel()
        return self._cancelled

    def _end(self, _: Any) -> None:
        self._done = True


class Relay(Generic[T]):
    """A bounded queue with a heart: items and the end or failure of their source on one way, closing on the other.

    Arguments:
        depth: items that may wait for the caller.
        endpoint: after so long without a sign of life as it says, the caller gets ServerUnavailable.
    """

    def __init__(self, depth: int, endpoint: Endpoint) -> None:
        self._depth = depth
        self._endpoint = endpoint
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._heard = time.monotonic()
        self._ended = False
        self._failure: BaseException | None = None
        self._closed = False
        self._process = os.getpid()
        self._call: _Call | None = None

    def run(self, source: Source[T]) -> None:
        """Feeds the items of a source until it ends, fails or is no longer wanted; the body of the thread."""
        failure: BaseException | None = None
        try:
            for item in source(self):
                self._put(item)
        except Closed:
            pass
        except BaseException as error:
            failure = error
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def get(self, deadline: float = math.inf) -> T:
        """The next item. Raises StopIteration at the end, what the source raised, or ServerUnavailable after silence.

        Arguments:
            deadline: the moment of time.monotonic() at which to raise StopIteration all the same.

        Raises:
            ForkedWhileStreaming: the thread that reads is in the parent of this process.
        """
        if os.getpid() != self._process:  # the lock may be held by a thread that is not here, and nothing more comes
            raise ForkedWhileStreaming(
                "this stream belongs to the parent of this process: open it in the worker, or use "
                "memory_client.torch.ReplayDataset"
            )
        with self._changed:
            while not self._items:
                self._check(deadline)
                self._changed.wait(min(deadline, self._heard + self._endpoint.silence) - time.monotonic())
            self._changed.notify_all()
            self._heard = time.monotonic()  # until now the thread may have waited for the reader, not for the server
            return self._items.popleft()

    @property
    def closed(self) -> bool:
        """Whether the caller, or the memory, has ended it."""
        return self._closed

    def close(self) -> None:
        """Ends the call and the thread; what waits is dropped. Nothing in a forked child: they are its parent's."""
        if os.getpid() != self._process:
            return
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
            call = self._call
        if call is not None:  # outside our lock: a garbage collector may call us while gRPC holds its own
            call.cancel()

    def beat(self) -> None:
        """Notes a sign of life. Raises Closed once the caller wants no more."""
        with self._changed:
            self._heard = time.monotonic()
            if self._closed:
                raise Closed

    def pause(self, seconds: float) -> None:
        """Sleeps, but wakes up and raises Closed once the caller wants no more."""
        self.beat()
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)
        self.beat()

    def messages(self, open_call: Callable[[], Any], target: str, resumes: bool = False) -> Iterator[Any]:
        """The messages of a call, which closing the relay cancels. Raises the error that a failed call stands for.

        Arguments:
            resumes: whether a fork may break the call off, by Interrupted.
        """
        call = self._call = _forks.opened(lambda: _Call(open_call(), resumes))
        try:
            self.beat()
            for message in call:
                self.beat()
                yield message
        except grpc.RpcError as error:
            self.beat()
            if call.interrupted:
                raise Interrupted from None
            raise from_rpc(error, target) from None
        finally:
            call.cancel()

    def _put(self, item: T) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._depth or self._closed)
            if self._closed:
                raise Closed
            self._items.append(item)
            self._heard = time.monotonic()
            self._changed.notify_all()

    def _check(self, deadline: float) -> None:
        now = time.monotonic()
        if self._failure is not None and not self._closed:  # what is closed may fail by that
            raise self._failure
        if self._ended or self._closed or now >= deadline:
            raise StopIteration
        if now >= self._heard + self._endpoint.silence:
            raise self._endpoint.silent()


class Reading(Generic[T]):
    """An iterator over what a background thread reads; ends the thread when closed, dropped or left by `with`."""

    def __init__(self, connection: Connection, source: Source[T], depth: int) -> None:
        self._relay: Relay[T] = Relay(depth, connection)
        connection.register(self._relay)
        # The thread must not hold this iterator: a reader who drops it is how most streams end.
        self._finalizer = weakref.finalize(self, self._relay.close)
        threading.Thread(target=self._relay.run, args=(source,), name="memory-stream", daemon=True).start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self._take(math.inf)

    def until(self, deadline: float | None) -> Iterator[T]:
        """The items that come before a moment of time.monotonic(); None: all."""
        with contextlib.suppress(StopIteration):
            while True:
                yield self._take(math.inf if deadline is None else deadline)

    @property
    def closed(self) -> bool:
        """Whether it was closed, by itself or with its memory."""
        return self._relay.closed

    def close(self) -> None:
        """Ends the stream; the next item is StopIteration."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise unpicklable()

    def _take(self, deadline: float) -> T:
        try:
            return self._relay.get(deadline)
        except ServerUnavailable:
            self.close()
            raise


def persistent(
    relay: Relay[Any],
    connection: Connection,
    open_call: Callable[[], Any],
    decode: Callable[[Any], Iterator[T]],
    complete: Callable[[], bool] = lambda: False,
) -> Iterator[T]:
    """Items of a server stream that is reopened where it broke, for `reconnect` seconds after the last message.

    Arguments:
        open_call: opens the stream at the present position.
        decode: the items of one message.
        complete: whether all that was asked for has come, so that a call that breaks after it is at its end.
    """
    patience = Patience(connection.reconnect)
    while True:
        try:
            for message in relay.messages(open_call, connection.target, resumes=True):
                patience.renew()
                yield from decode(message)
            return
        except Interrupted:
            if complete():
                return
        except ServerUnavailable as error:
            if complete():
                return
            relay.pause(patience.next_pause(error))
