"""Messages of the caller's thread on their way to a server."""

import contextlib
import queue
import time
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import grpc

from memory_client._lesson import not_taken
from memory_client.channel import SILENCE_SECONDS, Connection
from memory_client.errors import ServerUnavailable, from_rpc

Reply = TypeVar("Reply")

_POLL_SECONDS = 0.1
_AHEAD = 4  # messages that may wait for the connection


class Outbox(Generic[Reply]):
    """Messages on their way into one call, which another thread of gRPC's takes from here.

    After the first, which says what the others are about, it takes none until the server has accepted that.

    Arguments:
        method: of the stub; takes a stream of messages and gives one reply.
        patience: seconds that the reply may take once all is sent; None waits as long as the connection is alive.
    """

    def __init__(self, connection: Connection, method: Any, patience: float | None = SILENCE_SECONDS) -> None:
        self._connection = connection
        self._patience = patience
        self._waiting: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._call = method.future(self._messages())

    def put(self, message: Any) -> None:
        """Waits for room; None is the end. Raises what the call failed with, as soon as it has."""
        deadline = time.monotonic() + self._connection.silence
        while not self._call.done():
            try:
                return self._waiting.put(message, timeout=_POLL_SECONDS)
            except queue.Full:
                if time.monotonic() > deadline:
                    raise self._silent() from None
        self._result()
        return None

    def reply(self) -> Reply:
        """Ends the messages and waits for the answer."""
        self.put(None)
        return self._result()

    def close(self) -> None:
        """Cancels the call, if it has not ended, and lets gRPC's thread go."""
        self._call.cancel()
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)

    def _messages(self) -> Iterator[Any]:
        for number, message in enumerate(iter(self._waiting.get, None)):
            if number == 1:
                self._call.initial_metadata()  # waits for it, or for the end of the call
            yield message

    def _result(self) -> Reply:
        try:
            reply: Reply = self._call.result(self._patience)
            return reply
        except grpc.FutureTimeoutError:
            raise self._silent() from None
        except grpc.RpcError as error:
            raise from_rpc(error, self._connection.target) from None

    def _silent(self) -> ServerUnavailable:
        return not_taken(self._connection.target, self._connection.silence)
