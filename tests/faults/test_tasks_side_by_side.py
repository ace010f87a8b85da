"""Two tasks of one memory learn at a time, in two workers: neither can harm the other, nor what is learned already."""

import signal

import psutil
import pytest
from memory_api.v1 import memory_pb2 as pb

from tests.dgm_core.bases import random_base

SEEDED = {"n": 100, "batch_size": 32, "seed": 2026}
STYLED = {"kind": "gan_memory", "options": {"base": "tiny", "seed": "1"}}
LONG, ENDLESS = {**STYLED, "steps": 100}, {**STYLED, "steps": 1_000_000}


@pytest.fixture
def server(new_server):
    server = new_server(learners=2)
    (server.data_dir / "bases").mkdir(parents=True)
    (server.data_dir / "bases" / "tiny.safetensors").write_bytes(random_base("tiny").file)
    return server.start()


@pytest.fixture
def wire(server, connect):
    return connect(server)


def tasks(wire):
    return {task.task: task for task in wire.stub.ListTasks(pb.ListTasksRequest(memory="m"), timeout=30).tasks}


def learning(wire):
    """The tasks that are being trained now."""
    found = tasks(wire).values()
    return {task.task for task in found if task.state == pb.LEARNING and task.progress.phase}


def workers(server):
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if "memory_server.learning.worker" in child.cmdline()]


def complete(wire):
    return wire.stub.GetMemory(pb.GetMemoryRequest(name="m"), timeout=30).complete


@pytest.mark.slow
@pytest.mark.parametrize("styles", ["full", "lowrank"])
def test_tasks_learned_at_one_time_change_no_byte_of_earlier_ones_nor_of_each_other(
    styles, server, wire, connect, eventually, make_images
):
    styled = {**STYLED, "options": {**STYLED["options"], "styles": styles}}
    long = {**styled, "steps": 100}
    wire.learn("alone", "t1", (2, 3), **long)
    alone = wire.sample("alone", (2, 3), **SEEDED).x
    wire.learn("m", "t0", (0, 1), **styled)
    first = wire.sample("m", (0, 1), **SEEDED).x
    assert len(set(first)) > 1, "the samples are empty pictures"

    for task, classes in (("t1", (2, 3)), ("t2", (4, 5))):
        wire.submit("m", task, classes, **long)
    eventually(lambda: learning(wire) == {"t1", "t2"}, seconds=60)
    assert len(workers(server)) == 2
    while learning(wire):
        assert wire.sample("m", (0, 1), **SEEDED).x == first
    assert [wire.final("m", task).state for task in ("t1", "t2")] == [pb.LEARNED, pb.LEARNED]
    eventually(lambda: complete(wire), seconds=60)

    bytes_of = [wire.sample("m", classes, **SEEDED).x for classes in ((0, 1), (2, 3), (4, 5))]
    assert bytes_of[:2] == [first, alone]
    x, _ = make_images(n=4)
    asked = pb.ClassifyRequest(memory="m", spec=pb.DataSpec(shape=x.shape[1:], dtype=pb.UINT8), x=x.tobytes())
    assert {one.integer for one in wire.stub.Classify(asked, timeout=60).classes} == {0, 1, 2, 3, 4, 5}
    wire = connect(server.restart())
    assert [wire.sample("m", classes, **SEEDED).x for classes in ((0, 1), (2, 3), (4, 5))] == bytes_of


@pytest.mark.slow
def test_a_killed_worker_fails_its_own_task_and_the_one_beside_it_is_learned(server, wire, eventually):
    for task, classes in (("t0", (0, 1)), ("t1", (2, 3))):
        wire.submit("m", task, classes, **LONG)
    eventually(lambda: len(learning(wire)) == 2, seconds=60)
    workers(server)[0].send_signal(signal.SIGKILL)
    ends = [wire.final("m", task) for task in ("t0", "t1")]
    assert {end.state for end in ends} == {pb.FAILED, pb.LEARNED}
    failed, learned = sorted(ends, key=lambda end: end.state == pb.LEARNED)
    assert "SIGKILL" in failed.error
    assert complete(wire)
    again = (0, 1) if failed.task == "t0" else (2, 3)
    before = wire.sample("m", **SEEDED).x
    wire.learn("m", failed.task, again, **STYLED)
    assert wire.sample("m", **SEEDED, revision=learned.revision).x == before


@pytest.mark.slow
def test_a_server_killed_while_two_learn_leaves_no_worker_and_says_so_of_both(server, wire, connect, eventually):
    wire.learn("m", "t0", (0, 1), **STYLED)
    first = wire.sample("m", **SEEDED).x
    for task, classes in (("t1", (2, 3)), ("t2", (4, 5))):
        wire.submit("m", task, classes, **ENDLESS)
    eventually(lambda: len(learning(wire)) == 2, seconds=60)
    training = workers(server)
    server.stop(signal.SIGKILL)
    eventually(lambda: not any(worker.is_running() for worker in training), seconds=2)

    wire = connect(server.start())
    after = tasks(wire)
    assert [after[name].state for name in ("t0", "t1", "t2")] == [pb.LEARNED, pb.FAILED, pb.FAILED]
    assert all("send it again" in after[name].error for name in ("t1", "t2"))
    assert wire.sample("m", **SEEDED).x == first
