"""Counting, timing and logging of calls. Nothing here ever sees a value of x."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import structlog
from memory_api.v1 import memory_pb2 as pb
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, float("inf"))


class Telemetry:
    """The server's metrics, and one log line for each call.

    Arguments:
        registry: where the metrics are registered.
        queue_length: tasks that are not in a final state, asked for when the metrics are read.
        held_bytes: raw data held for tasks that are not learned yet, likewise.
        cached_bytes: generators kept on the device, likewise.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        queue_length: Callable[[], float],
        held_bytes: Callable[[], float],
        cached_bytes: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._log = structlog.get_logger()
        self._requests = Counter(
            "memory_server_requests_total", "Calls that have ended.", ["method", "code"], registry=registry
        )
        self._seconds = Histogram(
            "memory_server_request_seconds", "How long calls took.", ["method"], registry=registry, buckets=_SECONDS
        )
        self._open = Gauge("memory_server_open_calls", "Calls that go on now.", ["method"], registry=registry)
        self.samples = Counter("memory_server_samples_total", "Rows of samples sent.", registry=registry)
        self.sample_bytes = Counter("memory_server_sample_bytes_total", "Bytes of x sent.", registry=registry)
        self.ingest_bytes = Counter("memory_server_ingest_bytes_total", "Bytes of x taken in.", registry=registry)
        for name, text, read in (
            ("memory_server_queue_length", "Tasks that are queued, learning or being committed.", queue_length),
            ("memory_server_held_bytes", "Raw data of tasks that are not learned yet.", held_bytes),
            ("memory_server_expert_bytes", "Generators kept on the device.", cached_bytes),
        ):
            Gauge(name, text, registry=registry).set_function(read)

    @contextmanager
    def call(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[None]:
        """Watches one call from its begin to its end."""
        began = self._clock()
        self._open.labels(method).inc()
        ended = "CANCELLED"
        try:
            yield
            ended = "OK"
        except grpc.aio.AbortError:
            ended = _code(context)
            raise
        finally:
            seconds = self._clock() - began
            self._open.labels(method).dec()
            self._requests.labels(method, ended).inc()
            self._seconds.labels(method).observe(seconds)
            self._log.info("call", method=method, code=ended, seconds=round(seconds, 4))

    def received(self, message: Any) -> None:
        """Counts a message from a client."""
        if isinstance(message, pb.LearnTaskRequest):
            self.ingest_bytes.inc(len(message.chunk.x))

    def sent(self, message: Any) -> None:
        """Counts a message to a client."""
        if isinstance(message, pb.SampleResponse):
            self.samples.inc(len(message.chunk.y) // 4)
            self.sample_bytes.inc(len(message.chunk.x) + message.chunk.shared.length)


def _code(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The name of the status that the call was ended with."""
    code: Any = context.code()
    return next((known.name for known in grpc.StatusCode if code in (known, known.value[0])), "UNKNOWN")
