"""The connection to a server: where it is, one channel per process, deadlines, patience with a server that is away."""

import os
import random
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import grpc
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub

from memory_client import _forks
from memory_client._shared import is_local
from memory_client.credentials import Credentials
from memory_client.errors import InvalidInput, ServerUnavailable, from_rpc

T = TypeVar("T")

SILENCE_SECONDS = 60.0
"""A stream without any message for so long has lost its server: servers send a heartbeat every 10 seconds."""

_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A window of one small message and no bandwidth probing: a reader that pauses has the server stop within megabytes.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_535),
    # Come back to a restarted server within a second; gRPC's own default backs off to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
_LOCAL_OPTIONS = (*_OPTIONS, ("grpc.enable_http_proxy", 0))  # a proxy would read what is plaintext on this host alone
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_NONE = Credentials()


class Closable(Protocol):
    """What ends with its connection."""

    def close(self) -> None:
        """Ends it; may be called more than once."""


@dataclass(frozen=True)
class _Own:
    """What belongs to one process."""

    channel: grpc.Channel
    stub: MemoryServiceStub
    streams: weakref.WeakSet[Closable] = field(default_factory=weakref.WeakSet)


class Endpoint:
    """Where a server is, and how long it is waited for.

    Arguments:
        target: "host:port", "unix:/path", or any gRPC target.
        timeout: deadline of one unary call, in seconds.
        reconnect: how long a server that is away is tried again, in seconds.
        silence: how long a stream may stay without a message, in seconds.
        shared_memory: whether a server on this host may be offered memory for samples.
        credentials: what is shown to the server and expected of it; none: plaintext, and no token.
    """

    def __init__(
        self,
        target: str,
        timeout: float,
        reconnect: float,
        silence: float = SILENCE_SECONDS,
        shared_memory: bool = True,
        credentials: Credentials = _NONE,
    ) -> None:
        if not target:
            raise InvalidInput("target is empty: pass the server's address, such as 'localhost:50051'")
        self.target = target
        self.timeout = timeout
        self.reconnect = reconnect
        self.silence = silence
        self.shares_memory = shared_memory and is_local(target)
        self._credentials = credentials
        self._options = _LOCAL_OPTIONS if is_local(target) else _OPTIONS
        self._own: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_own": {}}

    def asynchronous_channel(self) -> grpc.aio.Channel:
        """A new channel for the running event loop."""
        secure = self._credentials.channel
        if secure is None:
            return grpc.aio.insecure_channel(self.target, options=self._options)
        return grpc.aio.secure_channel(self.target, secure, options=self._options)

    def synchronous_channel(self) -> grpc.Channel:
        """A new channel for this process."""
        secure = self._credentials.channel
        if secure is None:
            return grpc.insecure_channel(self.target, options=self._options)
        return grpc.secure_channel(self.target, secure, options=self._options)

    def methods(self, channel: grpc.Channel | grpc.aio.Channel) -> MemoryServiceStub:
        """The server's methods on a channel."""
        return MemoryServiceStub(self._credentials.bearing(channel))

    def silent(self) -> ServerUnavailable:
        """Nothing was heard on a stream for too long."""
        return ServerUnavailable(
            f"the server was silent for {self.silence:g} s. Check that it is alive, then open the stream again"
        )


class Connection(Endpoint):
    """Calls one server, by a channel that each process makes for itself when it first needs one.

    A channel does not survive a fork, so a child makes its own; a pickled connection carries the settings alone.
    """

    # By process: a forked child leaves its parent's channel and streams alone, whose threads and locks are not its own.
    _own: dict[int, _Own]

    @property
    def channel(self) -> grpc.Channel:
        """The channel of this process."""
        return self._of_this_process().channel

    @property
    def stub(self) -> MemoryServiceStub:
        """The server's methods on the channel of this process."""
        return self._of_this_process().stub

    def unary(self, method: str, request: Any) -> Any:
        """Calls a unary method, again for `reconnect` seconds while no server answers."""
        return self.patiently(lambda: self._once(method, request), time.sleep)

    def patiently(self, attempt: Callable[[], T], pause: Callable[[float], None]) -> T:
        """The result of `attempt`, repeated for `reconnect` seconds while no server answers."""
        patience = Patience(self.reconnect)
        while True:
            try:
                return attempt()
            except ServerUnavailable as error:
                pause(patience.next_pause(error))

    def register(self, stream: Closable) -> None:
        """Has a stream of this process closed with the connection; it is not kept alive."""
        self._of_this_process().streams.add(stream)

    def close(self) -> None:
        """Ends the streams and closes the channel of this process; the next call makes a new one."""
        own = self._own.pop(os.getpid(), None)
        if own is not None:
            for stream in list(own.streams):
                stream.close()
            own.channel.close()

    def _of_this_process(self) -> "_Own":
        pid = os.getpid()
        if pid not in self._own:
            _forks.check()
            channel = self.synchronous_channel()
            self._own.setdefault(pid, _Own(channel, self.methods(channel)))
        return self._own[pid]

    def _once(self, method: str, request: Any) -> Any:
        try:
            return getattr(self.stub, method)(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise from_rpc(error, self.target) from None


class Patience:
    """How long to go on trying: pauses grow from 0.1 s to 2 s, with jitter, until `seconds` after the first failure."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pauses = _growing_pauses()
        self._deadline: float | None = None

    def next_pause(self, error: ServerUnavailable) -> float:
        """Seconds to wait before the next try; raises `error` when there is to be none."""
        now = time.monotonic()
        self._deadline = self._deadline or now + self._seconds
        left = self._deadline - now
        if left <= 0:
            raise error
        return min(next(self._pauses), left)

    def renew(self) -> None:
        """Starts anew, after the server has answered."""
        self._pauses = _growing_pauses()
        self._deadline = None


def _growing_pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.5)
        pause = min(2 * pause, _LONGEST_PAUSE)
