"""OpenTelemetry traces, of calls and of learning, for a collector that the operator names. The extra [trace]."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from memory_server.learning.observer import Observer
from memory_server.learning.status import TaskStatus
from memory_server.store.records import TaskState

_WAITING_SPANS = 2048
"""Spans that wait for the collector at the most; further ones are dropped."""
_PATIENCE_SECONDS = 2.0

_SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Statuses that are the server's fault; the others are answers."""

Key = tuple[str, str]
"""(memory, task)."""


@dataclass
class _Lesson:
    """The spans of a task: of its call, to which it belongs; of the whole of it; of what it does now."""

    parent: Context
    whole: Span | None = None
    phase: Span | None = None
    name: str = ""


class Traces(Observer):
    """Spans of calls, and of each task that is learned: `learn`, below it its phases and `commit`.

    A task's spans belong to the trace of the call that sent it. Names, counts and statuses are recorded, never data.

    Arguments:
        provider: makes the spans and has them exported.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("memory_server")
        self._lessons: dict[Key, _Lesson] = {}

    @contextmanager
    def call(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[Callable[..., None]]:
        """A `Tracer`: spans a call; continues the client's trace if its metadata has a W3C `traceparent`."""
        sent = {key: value for key, value in metadata if isinstance(value, str)}
        parent = TraceContextTextMapPropagator().extract(sent)
        with self._tracer.start_as_current_span(
            method,
            parent,
            SpanKind.SERVER,
            record_exception=False,  # its words may be a client's; its status is enough
            set_status_on_exception=False,
        ) as span:

            def finish(code: str, known: Mapping[str, str | int]) -> None:
                span.set_attributes({"rpc.system": "grpc", "rpc.method": method, "rpc.grpc.status": code, **known})
                if code in _SERVER_ERRORS:
                    span.set_status(Status(StatusCode.ERROR, code))

            yield finish

    def changed(self, status: TaskStatus) -> None:
        """See `Observer.changed`."""
        record = status.record
        key = record.memory, record.task
        lesson = self._lessons.setdefault(key, _Lesson(current.get_current()))
        if record.state.final:
            del self._lessons[key]
            _end(lesson, status)
        elif record.state is TaskState.COMMITTING:
            self._enter(lesson, "commit")
        elif record.state is TaskState.LEARNING:
            if lesson.whole is None:
                known: dict[str, str | int] = {"memory": record.memory, "task": record.task, "rows": record.count}
                lesson.whole = self._tracer.start_span("learn", lesson.parent, attributes=known)
            self._enter(lesson, "start" if status.progress is None else status.progress.phase)

    def close(self) -> None:
        """Hands over what is waiting, within seconds, and ends."""
        self._provider.shutdown()

    def _enter(self, lesson: _Lesson, name: str) -> None:
        """Begins the span of a phase, unless it is the one that goes on."""
        if lesson.name == name or lesson.whole is None:
            return
        if lesson.phase is not None:
            lesson.phase.end()
        lesson.name = name
        lesson.phase = self._tracer.start_span(name, trace.set_span_in_context(lesson.whole, lesson.parent))


def traces_to(endpoint: str) -> Traces:
    """Traces that go to an OTLP gRPC collector: http://host:port in plain text, https://host:port encrypted.

    A collector that is away costs nothing but one warning: spans wait in a bounded queue and are then dropped.
    """
    _warn_once(endpoint)
    exporter = OTLPSpanExporter(endpoint, insecure=not endpoint.startswith("https://"), timeout=_PATIENCE_SECONDS)
    provider = TracerProvider(resource=Resource.create({"service.name": "memory-server"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_WAITING_SPANS))
    return Traces(provider)


def _end(lesson: _Lesson, status: TaskStatus) -> None:
    if lesson.phase is not None:
        lesson.phase.end()
    if lesson.whole is not None:
        record = status.record
        lesson.whole.set_attributes({"state": record.state.value, "reason": record.error_reason})
        if record.state is TaskState.FAILED:
            lesson.whole.set_status(Status(StatusCode.ERROR, record.error_reason))
        lesson.whole.end()


class _Once(logging.Handler):
    """Says once, in the server's own log, that something is wrong with the export."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self._endpoint = endpoint
        self._said = False

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - it may hold the collector's own words
        """See `logging.Handler.emit`."""
        if not self._said:
            self._said = True
            advice = "look whether a collector answers there; this is said only once"
            structlog.get_logger().warning("traces are lost", endpoint=self._endpoint, advice=advice)


def _warn_once(endpoint: str) -> None:
    logger = logging.getLogger("opentelemetry")
    logger.handlers, logger.propagate = [_Once(endpoint)], False
