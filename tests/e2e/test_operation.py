"""What an operator sees: health, reflection, metrics, logs, and the one line on standard output."""

import re
import time

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory, UnknownMemory

from tests.conftest import images


@pytest.mark.parametrize("service", ["", "memory_api.v1.MemoryService", "memory_api.v1.MemoryService/learning"])
def test_the_server_is_healthy(service, wire):
    health = health_pb2_grpc.HealthStub(wire.channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_services_can_be_listed(wire):
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflection_pb2_grpc.ServerReflectionStub(wire.channel).ServerReflectionInfo(iter([asked]), timeout=30)
    names = {service.name for service in answer.list_services_response.service}
    assert names >= {"memory_api.v1.MemoryService", "grpc.health.v1.Health"}


def test_standard_output_has_the_ready_line_and_nothing_else(server, taught):
    assert server.stdout.read_text() == f"memory-server ready on {server.target}\n"


# A call is counted and logged when it has ended in the server, which its client may learn a little earlier.


def test_calls_rows_and_bytes_are_counted(server, wire, taught, eventually):
    names = {
        "calls": 'memory_server_requests_total{code="OK",method="Sample"}',
        "refusals": 'memory_server_requests_total{code="NOT_FOUND",method="GetMemory"}',
        "samples": "memory_server_samples_total",
        "bytes": "memory_server_sample_bytes_total",
        "timed": 'memory_server_request_seconds_count{method="Sample"}',
        "first": 'memory_server_first_rows_seconds_count{method="Sample"}',
    }
    wire.stub.ListMemories(pb.ListMemoriesRequest(), timeout=30)  # answered after all earlier calls have ended
    before = {key: server.metric(name) for key, name in names.items()}
    wire.sample(taught, n=100)
    wire.refusal(lambda: wire.stub.GetMemory(pb.GetMemoryRequest(name="nobody"), timeout=30))
    expected = {"calls": 1, "refusals": 1, "samples": 100, "bytes": 6400, "timed": 1, "first": 1}
    eventually(lambda: {key: server.metric(name) - before[key] for key, name in names.items()} == expected)
    assert server.metric("memory_server_ingest_bytes_total") >= 80 * 64
    assert server.metric("memory_server_expert_bytes") > 0


def test_what_learning_does_can_be_read_while_it_does_it(server, wire, name, eventually):
    learning, queued = (f'memory_server_tasks{{state="{state}"}}' for state in ("LEARNING", "QUEUED"))
    for task in ("t0", "t1"):
        wire.submit(name, task, steps=1_000_000)
    eventually(lambda: (server.metric(learning), server.metric(queued)) == (1, 1))
    assert server.metric("memory_server_oldest_queued_task_seconds") > 0
    steps = 'memory_server_training_steps_total{phase="generator"}'
    before = server.metric(steps)
    eventually(lambda: server.metric(steps) > before)
    assert server.metric('memory_server_training_loss{learner="0",loss="critic"}') != 0
    assert server.metric('memory_server_training_mask_occupancy_ratio{learner="0"}') > 0
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), timeout=60)
    assert (server.metric(learning), server.metric(queued)) == (0, 0)
    assert server.metric("memory_server_held_bytes") == 0
    assert server.metric('memory_server_tasks_ended_total{reason="",state="CANCELLED"}') >= 2


def test_memories_and_commits_are_told(server, wire, taught):
    commit = server.metric(f'memory_server_memory_commit_timestamp_seconds{{memory="{taught}"}}')
    assert 0 <= time.time() - commit < 3600
    assert server.metric("memory_server_last_commit_timestamp_seconds") >= commit
    assert server.metric("memory_server_blob_bytes") > 0 and server.metric("memory_server_disk_free_bytes") > 0


def test_every_call_is_one_line_of_json_in_the_log(server, wire, taught, eventually):
    def refusals():
        return [line for line in server.log if (line.get("method"), line.get("code")) == ("GetMemory", "NOT_FOUND")]

    before = len(refusals())
    wire.refusal(lambda: wire.stub.GetMemory(pb.GetMemoryRequest(name="nobody"), timeout=30))
    eventually(lambda: len(refusals()) == before + 1)
    last = refusals()[-1]
    assert (last["event"], last["level"]) == ("call", "info") and last["seconds"] >= 0


def lines_of(server, request_id: str) -> list[dict]:
    return [line for line in server.log if line.get("request_id") == request_id]


@pytest.mark.parametrize(
    ("sent", "kept"), [("trace-7.b_X", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("", False)]
)
def test_a_call_has_the_id_that_its_client_sends_if_it_is_well_formed(server, wire, sent, kept, eventually):
    _, call = wire.stub.ListMemories.with_call(pb.ListMemoriesRequest(), timeout=30, metadata=[("x-request-id", sent)])
    (used,) = (value for key, value in call.trailing_metadata() if key == "x-request-id")
    assert (used == sent) is kept and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", used)
    eventually(lambda: [line["method"] for line in lines_of(server, used)] == ["ListMemories"])


def test_every_line_that_a_task_leads_to_bears_the_id_of_the_call_that_sent_it(server, wire, name, eventually):
    x, y = images()
    for task in ("t0", "t1"):  # the second is started by the end of the first
        messages = wire.messages(name, task, x, y, (0, 1), steps=1, seconds=1)
        wire.stub.LearnTask(messages, timeout=60, metadata=[("x-request-id", f"{name}-{task}")])
    wire.stub.CancelTask(pb.CancelTaskRequest(memory=name, task="t1"), timeout=60)
    wire.final(name, "t0")
    eventually(lambda: len(lines_of(server, f"{name}-t0")) == 5)
    lines = lines_of(server, f"{name}-t0")
    assert [line.get("state", line.get("method")) for line in lines if line["event"] == "task"] == [
        *("QUEUED", "LEARNING", "COMMITTING", "LEARNED")
    ]
    assert all((line["memory"], line["task"]) == (name, "t0") for line in lines)
    assert next(line["rows"] for line in lines if line["event"] == "call") == len(y)
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), timeout=60)


def test_an_error_of_the_sdk_names_the_line_of_the_log(server, eventually):
    with Memory(server.target, name="nobody") as memory, pytest.raises(UnknownMemory) as caught:
        memory.tasks()
    assert caught.value.request_id in str(caught.value)
    eventually(lambda: [line["code"] for line in lines_of(server, caught.value.request_id)] == ["NOT_FOUND"])


def test_what_is_no_name_is_not_logged(server, wire):
    evil = "no\nname" * 1000
    wire.refusal(lambda: wire.stub.GetTask(pb.GetTaskRequest(memory=evil, task="t0"), timeout=30))
    assert "no\\nname" not in server.stderr.read_text()
