"""Traces and curves of a real server, at a collector and on disk; and nothing of the data in them."""

import re
import time
from types import SimpleNamespace

import pytest
from memory_api.v1 import memory_pb2 as pb

from tests.collector import Collector
from tests.conftest import images

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector():
    with Collector.listening() as collector:
        yield collector


def attributes(span) -> SimpleNamespace:
    pairs = {one.key.split(".")[-1]: one.value.string_value or one.value.int_value for one in span.attributes}
    return SimpleNamespace(**pairs)


def test_a_task_is_one_trace_from_its_call_to_its_commit_and_nothing_of_its_data_leaves(
    new_server, connect, collector, tmp_path
):
    curves = tmp_path / "curves"
    server = new_server(trace_endpoint=collector.endpoint, tensorboard_dir=curves).start()
    wire = connect(server)
    x, y = images()
    wire.stub.LearnTask(
        wire.messages("digits", "t0", x, y, (0, 1), steps=1), timeout=60, metadata=[("traceparent", PARENT)]
    )
    assert wire.final("digits", "t0").state == pb.LEARNED
    wire.sample("digits", n=20)
    server.stop()

    trace = [span for span in collector.spans if span.trace_id.hex() == PARENT.split("-")[1]]
    names = [span.name for span in sorted(trace, key=lambda span: span.start_time_unix_nano)]
    assert names[:3] == ["LearnTask", "learn", "start"] and names[-1] == "commit"
    assert next(attributes(span) for span in trace if span.name == "LearnTask").rows == len(y)
    sample = next(attributes(span) for span in collector.spans if span.name == "Sample")
    assert (sample.memory, sample.rows, sample.status) == ("digits", 20, "OK")

    written = [path.read_bytes() for path in curves.rglob("*") if path.is_file()]
    assert written and (curves / "digits/t0").is_dir()
    left = [*written, *(request.SerializeToString() for request in collector.requests)]
    assert not any(row.tobytes()[:16] in content for row in x for content in left)


@pytest.mark.slow
def test_a_server_whose_collector_is_away_starts_serves_and_stops_as_ever(new_server, connect, collector):
    collector.stop()
    server = new_server(trace_endpoint=collector.endpoint).start()
    for _ in range(3):
        connect(server).stub.ListMemories(pb.ListMemoriesRequest(), timeout=30)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 30
    assert len(re.findall("traces are lost", server.stderr.read_text())) == 1
