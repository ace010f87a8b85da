"""An OTLP collector in the test's own process: it keeps the spans that servers send it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collected
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collecting
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(collecting.TraceServiceServicer):
    """Keeps what it gets.

    Attributes:
        endpoint: where it listens.
        requests: all that came.
    """

    def __init__(self) -> None:
        self.requests: list[collected.ExportTraceServiceRequest] = []
        self._server = grpc.server(ThreadPoolExecutor(max_workers=2))
        collecting.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://localhost:{self._server.add_insecure_port('localhost:0')}"

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator["Collector"]:
        """One that listens until the end of the block."""
        collector = cls()
        collector._server.start()
        yield collector
        collector.stop()

    def stop(self) -> None:
        """Listens no longer."""
        self._server.stop(None).wait()

    def Export(  # noqa: N802 - as in the proto
        self, request: collected.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> collected.ExportTraceServiceResponse:
        """Takes spans."""
        self.requests.append(request)
        return collected.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        """All that came so far."""
        resources = [one for request in self.requests for one in request.resource_spans]
        return [span for one in resources for scope in one.scope_spans for span in scope.spans]
