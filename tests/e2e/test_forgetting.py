"""Erasure over a real socket: what is gone, what stays to the bit, and what is made anew. And classes taught twice."""

import hashlib
import json
import time
from collections import Counter
from contextlib import closing

import grpc
import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb

from memory_server.store import revisions
from memory_server.store.database import Database

SEEDED = {"n": 96, "batch_size": 32, "seed": 2026}


def forget(wire, memory, task):
    return wire.stub.ForgetTask(pb.ForgetTaskRequest(memory=memory, task=task), timeout=60)


def completed(wire, memory):
    """The memory once its solver is there again."""
    deadline = time.monotonic() + 60
    while not (now := wire.stub.GetMemory(pb.GetMemoryRequest(name=memory), timeout=30)).complete:
        assert time.monotonic() < deadline, "the solver was not trained anew"
        time.sleep(0.05)
    return now


def delete(wire, memory):
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=memory), timeout=60)


def begin_endless_task(wire, memory):
    wire.submit(memory, "endless", (8, 9), steps=1_000_000)
    for status in wire.stub.WatchTask(pb.WatchTaskRequest(memory=memory, task="endless"), timeout=60):
        if status.state == pb.LEARNING:
            return


def files(server):
    """Every blob on the disk, by the name that its content gives it."""
    found = {path.name: path.read_bytes() for path in server.data_dir.glob("blobs/??/*")}
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in found.items())
    return found


def manifests(server, memory):
    """All revisions that the catalog has of a memory, oldest first."""
    with closing(Database(server.data_dir / "catalog.sqlite")) as database, database.read() as db:
        kept = [revisions.revision(db, memory, number) for number in revisions.numbers(db, memory)]
    return [json.loads(manifest.to_json()) for manifest in kept]


def task_blobs(server, memory):
    """The blobs of the tasks of the newest revision, by task."""
    content = files(server)
    return {task["task"]: content[task["blob"]] for task in manifests(server, memory)[-1]["tasks"]}


def classify(wire, memory, x):
    spec = pb.DataSpec(shape=x.shape[1:], dtype=pb.UINT8)
    return wire.stub.Classify(pb.ClassifyRequest(memory=memory, spec=spec, x=x.tobytes()), timeout=60)


@pytest.mark.slow
def test_forgetting_the_last_task_leaves_the_tasks_as_if_it_had_never_been_learned(server, wire, name, make_images):
    wire.learn(name, "t0", (0, 1))
    before, of_tasks = files(server), task_blobs(server, name)
    seeded = wire.sample(name, **SEEDED).x
    wire.learn(name, "t1", (2, 3))
    added = set(files(server)) - set(before)
    assert len(added) == 2

    left = forget(wire, name, "t1")

    assert (left.revision, left.tasks, [one.integer for one in left.classes]) == (3, 1, [0, 1])
    assert completed(wire, name).revision == 4
    assert not added & set(files(server)), "the blob of the task, or the solver that learned from it, is left"
    assert task_blobs(server, name) == of_tasks
    assert [[task["task"] for task in one["tasks"]] for one in manifests(server, name)] == [[], ["t0"], ["t0"], ["t0"]]
    for revision in (0, 1, 3, 4):  # 0 is the newest
        assert wire.sample(name, **SEEDED, revision=revision).x == seeded
    x, _ = make_images(n=20)
    answer = classify(wire, name, x)
    assert ([one.integer for one in answer.classes], answer.revision) == ([0, 1], 4)


@pytest.mark.slow
def test_an_erasable_task_is_forgotten_alone_and_what_came_later_keeps_its_bytes(server, wire, name):
    wire.learn(name, "t0", (0, 1))
    wire.learn(name, "patient", (2, 3), erasable=True)
    wire.learn(name, "t2", (4, 5))
    seeded = [wire.sample(name, classes, **SEEDED).x for classes in ((0, 1), (4, 5))]
    of_tasks = task_blobs(server, name)
    gone = of_tasks.pop("patient")

    forget(wire, name, "patient")
    completed(wire, name)

    assert task_blobs(server, name) == of_tasks
    assert gone not in files(server).values()
    assert [wire.sample(name, classes, **SEEDED).x for classes in ((0, 1), (4, 5))] == seeded
    wire.learn(name, "t3", (6, 7))
    assert [wire.sample(name, classes, **SEEDED).x for classes in ((0, 1), (4, 5))] == seeded


def test_a_memory_forgets_all_that_is_finished_and_is_empty_then(server, wire, name):
    before = set(files(server))
    wire.learn(name, "t0")
    begin_endless_task(wire, name)
    for task, said in (("endless", "is LEARNING"), ("t0", "on top of task t0")):
        refusal = wire.refusal(lambda task=task: forget(wire, name, task))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_UNFINISHED")
        assert said in refusal.message

    wire.stub.CancelTask(pb.CancelTaskRequest(memory=name, task="endless"), timeout=30)
    assert forget(wire, name, "endless").revision == 1
    left = forget(wire, name, "t0")

    assert (left.tasks, left.complete, left.bytes) == (0, True, 0)
    assert list(wire.stub.ListTasks(pb.ListTasksRequest(memory=name), timeout=30).tasks) == []
    assert set(files(server)) == before
    assert wire.refusal(lambda: wire.sample(name, n=8)).reason == "EMPTY_MEMORY"


@pytest.mark.slow
def test_classify_says_when_the_solver_is_there_and_tasks_wait_for_it(wire, name, make_images):
    x, _ = make_images(n=4)
    wire.learn(name, "t0", (0, 1))
    wire.learn(name, "t1", (2, 3))
    others = (f"{name}-other", f"{name}-another")  # which keep the solver waiting, too
    for other in others:
        begin_endless_task(wire, other)
    assert not forget(wire, name, "t1").complete

    refusal = wire.refusal(lambda: classify(wire, name, x))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SOLVER_RETRAINING")
    assert refusal.retry_after is not None and refusal.retry_after >= 0.5
    waiting = wire.submit(name, "t2", (4, 5))
    assert waiting.state == pb.QUEUED
    ask = pb.GetTaskRequest(memory=name, task="t2")
    assert wire.stub.GetTask(ask, timeout=30).waiting_for == (
        f"queued behind the retraining of the solver of memory {name}"
    )
    assert wire.sample(name, n=8).y

    for other in others:
        delete(wire, other)
    completed(wire, name)
    assert wire.final(name, "t2").state == pb.LEARNED
    assert [one.integer for one in classify(wire, name, x).classes] == [0, 1, 4, 5]


@pytest.mark.slow
def test_streams_let_go_of_what_is_forgotten_and_it_is_nowhere_any_more(wire, name):
    wire.learn(name, "t0", (0, 1))
    wire.learn(name, "t1", (2, 3))
    following, pinned, restricted, older = streams = [
        wire.stub.Sample(pb.SampleRequest(memory=name, batch_size=1024, **request), timeout=60)
        for request in ({}, {"seed": 1}, {"tasks": ["t1"]}, {"seed": 1, "revision": 1})
    ]
    for stream in streams:
        assert next(stream).WhichOneof("message") == "header"
        next(stream)

    forget(wire, name, "t1")

    header = next(message.header for message in following if message.WhichOneof("message") == "header")
    assert (header.revision, [one.integer for one in header.classes]) == (3, [0, 1])
    assert wire.refusal(lambda: list(pinned)).reason == "UNKNOWN_REVISION"
    assert wire.refusal(lambda: list(restricted)).reason == "UNKNOWN_TASK"
    assert all(next(older).WhichOneof("message") == "chunk" for _ in range(5))
    following.cancel()
    older.cancel()

    refusals = [
        (lambda: wire.stub.GetTask(pb.GetTaskRequest(memory=name, task="t1"), timeout=30), "UNKNOWN_TASK"),
        (lambda: forget(wire, name, "t1"), "UNKNOWN_TASK"),
        (lambda: forget(wire, "nobody", "t1"), "UNKNOWN_MEMORY"),
        (lambda: wire.sample(name, n=8, tasks=["t1"]), "UNKNOWN_TASK"),
        (lambda: wire.sample(name, n=8, classes=(2,)), "UNKNOWN_CLASS"),
        (lambda: wire.sample(name, n=8, revision=2), "UNKNOWN_REVISION"),
    ]
    for call, reason in refusals:
        refusal = wire.refusal(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, reason)
    assert "the revisions are 0, 1, 3" in refusal.message


@pytest.mark.slow
def test_a_class_taught_twice_is_drawn_from_both_tasks_in_proportion_to_their_examples(wire, name):
    """A class is black in one task and white in the other, so that every row tells where it comes from."""
    for task, pixel, n in (("dark", 0, 40), ("light", 255, 120)):
        x = np.full((n, 1, 8, 8), pixel, np.uint8)
        x[1::2, :, :4] = 128  # the other class of the task
        y = np.arange(n, dtype=np.int32) % 2
        upload = wire.messages(name, task, x, y, (0, 1 + (task == "light")), steps=120)
        wire.stub.LearnTask(upload, timeout=60)
        assert wire.final(name, task).state == pb.LEARNED

    def light(**request):
        rows = wire.sample(name, classes=(0,), n=1000, **request).rows()
        return Counter((rows.reshape(len(rows), -1).mean(axis=1) > 127).tolist())

    assert light(tasks=["dark"])[True] < 50
    assert light(tasks=["light"])[True] > 950
    for request in ({}, {"tasks": ["dark", "light"]}):
        assert light(**request)[True] == pytest.approx(750, abs=60)
    assert set(wire.sample(name, n=30).y) == {0, 1, 2}
