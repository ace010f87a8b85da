"""How a task gets into a memory, over a real socket."""

import time

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb


def test_a_task_is_followed_from_the_queue_to_its_end(wire, name):
    queued = wire.submit(name, "t0", steps=30)
    assert (queued.state, queued.count) == (pb.QUEUED, 40)
    seen = list(wire.stub.WatchTask(pb.WatchTaskRequest(memory=name, task="t0"), timeout=60))
    states = [status.state for status in seen]
    assert states == sorted(states) and states[-1] == pb.LEARNED and pb.LEARNING in states
    fractions = [status.progress.fraction for status in seen if status.progress.phase]
    assert fractions == sorted(fractions)
    assert {status.progress.phase for status in seen} >= {"generator"}
    last = seen[-1]
    assert (last.revision, last.steps, [one.integer for one in last.classes]) == (1, 30, [0, 1])
    assert 0 <= last.quality <= 1 and last.learn_seconds > 0
    assert last.created_unix_ms <= last.finished_unix_ms
    memory = wire.stub.GetMemory(pb.GetMemoryRequest(name=name), timeout=30)
    assert (memory.revision, memory.tasks, memory.kind) == (1, 1, "dgmw")
    assert memory.bytes > 0 and {"width", "seed"} <= set(memory.options)


def test_a_waiting_task_says_behind_what_and_can_be_cancelled(wire, name):
    wire.submit(name, "long", (0, 1), steps=1_000_000)
    wire.submit(name, "next", (2, 3))
    ask = pb.GetTaskRequest(memory=name, task="next")
    assert wire.stub.GetTask(ask, timeout=30).waiting_for == f"queued behind task long of memory {name}"
    for task in ("long", "next"):
        cancelled = wire.stub.CancelTask(pb.CancelTaskRequest(memory=name, task=task), timeout=30)
        assert cancelled.state == pb.CANCELLED
        assert wire.stub.CancelTask(pb.CancelTaskRequest(memory=name, task=task), timeout=30) == cancelled
    listed = wire.stub.ListTasks(pb.ListTasksRequest(memory=name), timeout=30).tasks
    assert [(task.task, task.state) for task in listed] == [("long", pb.CANCELLED), ("next", pb.CANCELLED)]


def test_a_task_below_its_least_quality_fails_and_changes_nothing(wire, name):
    x = np.random.default_rng(0).integers(0, 256, (160, 1, 8, 8), dtype=np.uint8)
    y = np.arange(160, dtype=np.int32) % 8
    upload = wire.messages(name, "t0", x, y, tuple(range(8)), min_quality=1.0, steps=2)
    wire.stub.LearnTask(upload, timeout=60)
    failed = wire.final(name, "t0")
    assert (failed.state, failed.error_reason) == (pb.FAILED, "QUALITY_TOO_LOW")
    assert wire.stub.GetMemory(pb.GetMemoryRequest(name=name), timeout=30).revision == 0
    assert wire.refusal(lambda: wire.sample(name, n=8)).reason == "EMPTY_MEMORY"


@pytest.mark.slow
def test_pixels_and_the_floats_that_stand_for_them_learn_the_same(wire, name, make_images):
    x, y = make_images()
    floats = (x / np.float32(127.5) - 1).astype(np.float32)
    samples = []
    for memory, rows, dtype in ((f"{name}-a", x, pb.UINT8), (f"{name}-b", floats, pb.FLOAT32)):
        options = {"width": "4", "noise": "8", "seed": "3"}
        wire.stub.LearnTask(wire.messages(memory, "t0", rows, y, (0, 1), dtype=dtype, options=options), timeout=60)
        assert wire.final(memory, "t0").state == pb.LEARNED
        samples.append(wire.sample(memory, n=100, seed=1).x)
    assert samples[0] == samples[1]


def test_a_deleted_memory_ends_its_streams_and_tasks_and_frees_its_name(server, wire, name):
    wire.learn(name, "t0")
    wire.submit(name, "long", (2, 3), steps=1_000_000)
    stream = wire.stub.Sample(pb.SampleRequest(memory=name), timeout=60)
    next(stream)
    blobs = len(list(server.data_dir.glob("blobs/??/*")))
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), timeout=60)
    assert wire.refusal(lambda: list(stream)).reason == "UNKNOWN_MEMORY"
    assert wire.refusal(lambda: wire.sample(name, n=8)).reason == "UNKNOWN_MEMORY"
    assert wire.refusal(lambda: wire.final(name, "long")).reason == "UNKNOWN_MEMORY"
    assert len(list(server.data_dir.glob("blobs/??/*"))) < blobs
    wire.submit(name, "t0", ("cat", "dog"))
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), timeout=60)


def test_a_class_type_is_settled_by_the_first_task_even_while_it_waits(wire, name):
    wire.submit(name, "t0", (0, 1), steps=1_000_000)
    refusal = wire.refusal(lambda: wire.submit(name, "t1", ("cat", "dog")))
    assert (refusal.reason, refusal.field) == ("BAD_REQUEST", "chunk.new_classes")
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), timeout=60)


def test_a_bound_in_seconds_is_kept(wire, name):
    began = time.monotonic()
    wire.learn(name, "t0", steps=1_000_000, seconds=4.0)
    assert time.monotonic() - began < 20
