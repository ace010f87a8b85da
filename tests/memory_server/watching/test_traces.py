from contextlib import closing
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from memory_server.store.records import TaskState
from memory_server.watching.traces import Traces, traces_to
from tests.memory_server.watching.test_activity import at

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with closing(Traces(provider)) as traces:
        yield traces


def learn(traces: Traces, *ends: TaskState) -> None:
    for status in (at(TaskState.QUEUED), at(TaskState.LEARNING)):
        traces.changed(status)
    for step, phase in ((0, "generator"), (9, "generator"), (1, "solver")):
        traces.changed(at(TaskState.LEARNING, step=step, phase=phase))
    for state in ends:
        traces.changed(at(state))


def test_a_call_continues_the_trace_of_its_client(traces, exporter):
    with traces.call("Sample", [("traceparent", PARENT), ("binary-bin", b"\x00")]) as finish:
        finish("OK", {"memory": "digits", "rows": 64})
    (span,) = exporter.get_finished_spans()
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == tuple(PARENT.split("-")[1:3])
    assert (span.name, span.attributes["memory"], span.attributes["rows"]) == ("Sample", "digits", 64)
    assert span.attributes["rpc.grpc.status"] == "OK"


@pytest.mark.parametrize("sent", ["", "nonsense", "00-0-0-01"])
def test_what_is_no_traceparent_begins_a_trace(traces, exporter, sent):
    with traces.call("GetMemory", [("traceparent", sent)]):
        pass
    assert exporter.get_finished_spans()[0].parent is None


@pytest.mark.parametrize(("code", "status"), [("NOT_FOUND", StatusCode.UNSET), ("INTERNAL", StatusCode.ERROR)])
def test_only_the_servers_own_faults_are_errors_and_no_exception_is_quoted(traces, exporter, code, status):
    def fail():
        with traces.call("GetMemory", []) as finish:
            finish(code, {})
            raise ValueError("0.123, a value of the data")

    with pytest.raises(ValueError):
        fail()
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is status
    assert "0.123" not in span.to_json()


def test_the_phases_of_a_task_and_its_commit_are_spans_of_the_call_that_sent_it(traces, exporter):
    with traces.call("LearnTask", []):
        traces.changed(at(TaskState.QUEUED))
    learn(traces, TaskState.COMMITTING, TaskState.LEARNED)
    call, *phases, whole = exporter.get_finished_spans()
    assert [span.name for span in phases] == ["start", "generator", "solver", "commit"]
    assert {span.parent.span_id for span in phases} == {whole.context.span_id}
    assert (whole.name, whole.parent.span_id, whole.attributes["rows"]) == ("learn", call.context.span_id, 40)
    assert all(span.context.trace_id == call.context.trace_id for span in (*phases, whole))


def test_a_task_that_fails_or_is_cancelled_leaves_no_span_open(traces, exporter):
    learn(traces, TaskState.CANCELLED)
    learn(traces, TaskState.FAILED)
    wholes = [span for span in exporter.get_finished_spans() if span.name == "learn"]
    assert [span.status.status_code for span in wholes] == [StatusCode.UNSET, StatusCode.ERROR]
    traces.changed(replace(at(TaskState.QUEUED), waiting_for=""))
    traces.changed(at(TaskState.CANCELLED))
    assert len([span for span in exporter.get_finished_spans() if span.name == "learn"]) == 2, "it never began"


def test_a_collector_that_is_away_costs_one_warning(capsys):
    with closing(traces_to("http://localhost:1")) as traces:
        for _ in range(3):
            with traces.call("GetMemory", []):
                pass
            traces._provider.force_flush(10_000)
    said = capsys.readouterr()
    assert (said.out + said.err).count("traces are lost") == 1 and "Transient" not in said.out + said.err
