"""Counting, timing, tracing and logging of calls. Nothing here ever sees a value of x."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import grpc
import structlog
from memory_api.v1 import memory_pb2 as pb
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from memory_server.codec.answers import Samples
from memory_server.codec.values import is_name
from memory_server.interceptors.identity import KEY, Metadata, request_id

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100, 300, 1000)
_LABEL_BYTES = 4

Finish = Callable[[str, Mapping[str, str | int]], None]
"""Given the name of a call's status and what is known of it, once it has ended."""


class Tracer(Protocol):
    """Makes a span of a call."""

    def __call__(self, method: str, metadata: Metadata) -> AbstractContextManager[Finish]:
        """Spans the block; `metadata` is the client's and may name a trace to continue."""
        ...


@contextmanager
def untraced(method: str, metadata: Metadata) -> Iterator[Finish]:  # noqa: ARG001 - a `Tracer`
    """No span."""
    yield lambda _code, _known: None


class Counters:
    """The metrics of calls.

    Arguments:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "memory_server_requests_total", "Calls that have ended.", ["method", "code"], registry=registry
        )
        self.seconds = Histogram(
            "memory_server_request_seconds", "How long calls took.", ["method"], registry=registry, buckets=_SECONDS
        )
        self.first_rows = Histogram(
            "memory_server_first_rows_seconds",
            "From the begin of a stream of samples to its first rows.",
            ["method"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.open = Gauge("memory_server_open_calls", "Calls that go on now.", ["method"], registry=registry)
        self.samples = Counter("memory_server_samples_total", "Rows of samples sent.", registry=registry)
        self.sample_bytes = Counter("memory_server_sample_bytes_total", "Bytes of x sent.", registry=registry)
        self.ingest_rows = Counter("memory_server_ingest_rows_total", "Rows of tasks taken in.", registry=registry)
        self.ingest_bytes = Counter("memory_server_ingest_bytes_total", "Bytes of x taken in.", registry=registry)


class Call:
    """One call, as far as it has come.

    Arguments:
        method: its name.
        request_id: its id.
        counters: what its rows are added to.
        age: seconds since it began.

    Attributes:
        known: memory, task and rows, as far as its messages tell; names that are none are left out.
    """

    def __init__(self, method: str, request_id: str, counters: Counters, age: Callable[[], float]) -> None:
        self.method = method
        self.trailer = (KEY, request_id)
        self.known: dict[str, str | int] = {}
        self._counters = counters
        self._age = age

    def received(self, message: Any) -> None:
        """Notes a message from the client."""
        if isinstance(message, pb.LearnTaskRequest):
            self._taken_in(message)
        elif isinstance(message, pb.CreateMemoryRequest | pb.GetMemoryRequest | pb.DeleteMemoryRequest):
            self._name(memory=message.name)
        else:
            self._name(memory=getattr(message, "memory", ""), task=getattr(message, "task", ""))

    def sent(self, message: Any) -> None:
        """Notes a message to the client."""
        if isinstance(message, pb.ClassifyResponse):
            self._add(len(message.y) // _LABEL_BYTES)
        elif isinstance(message, Samples) and message.rows:  # neither a header nor a heartbeat
            if "rows" not in self.known:
                self._counters.first_rows.labels(self.method).observe(self._age())
            self._counters.samples.inc(self._add(message.rows))
            self._counters.sample_bytes.inc(message.nbytes)

    def _taken_in(self, message: pb.LearnTaskRequest) -> None:
        self._name(memory=message.header.memory, task=message.header.task)
        if message.WhichOneof("message") == "chunk":
            self._counters.ingest_rows.inc(self._add(len(message.chunk.y) // _LABEL_BYTES))
            self._counters.ingest_bytes.inc(len(message.chunk.x))

    def _add(self, rows: int) -> int:
        self.known["rows"] = int(self.known.get("rows", 0)) + rows
        return rows

    def _name(self, **names: str) -> None:
        """Keeps names; what is none could be anything, of any length."""
        self.known |= {key: name for key, name in names.items() if is_name(name)}


class Telemetry:
    """Watches calls: metrics, one line of the log for each, a span where there is a tracer.

    Arguments:
        registry: where the metrics are registered.
        tracer: makes spans.
        clock: seconds, never going back.
    """

    def __init__(
        self, registry: CollectorRegistry, tracer: Tracer = untraced, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counters = Counters(registry)
        self._tracer = tracer
        self._clock = clock
        self._log = structlog.get_logger()

    @contextmanager
    def call(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[Call]:
        """Watches one call from its begin to its end; what is logged meanwhile bears its id."""
        metadata = tuple(context.invocation_metadata() or ())
        began = self._clock()
        call = Call(method, request_id(metadata), self._counters, lambda: self._clock() - began)
        context.set_trailing_metadata((call.trailer,))
        ended = "CANCELLED"
        with (
            structlog.contextvars.bound_contextvars(request_id=call.trailer[1]),
            self._counters.open.labels(method).track_inprogress(),
            self._tracer(method, metadata) as finish,
        ):
            try:
                yield call
                ended = "OK"
            except grpc.aio.AbortError:
                ended = _code(context)
                raise
            finally:
                self._ended(call, ended, self._clock() - began)
                finish(ended, call.known)

    def _ended(self, call: Call, code: str, seconds: float) -> None:
        self._counters.requests.labels(call.method, code).inc()
        self._counters.seconds.labels(call.method).observe(seconds)
        self._log.info("call", method=call.method, code=code, seconds=round(seconds, 4), **call.known)


def _code(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The name of the status that the call was ended with."""
    code: Any = context.code()
    return next((known.name for known in grpc.StatusCode if code in (known, known.value[0])), "UNKNOWN")
