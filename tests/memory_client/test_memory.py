"""Memory: what it is made of, where it may go, and the calls that answer once."""

import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import memory_client
import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import (
    InvalidInput,
    LayerUsage,
    MaskPoint,
    Memory,
    MemoryClosed,
    ServerUnavailable,
    SolverRetraining,
    TaskAnalysis,
    TaskInUse,
    TaskUnfinished,
    UnknownMemory,
    UnknownTask,
)

IMPORT = """
import sys, time
started = time.process_time()
import memory_client
seconds = time.process_time() - started
heavy = {"torch", "typer", "rich", "PIL", "matplotlib", "dgm_core", "memory_server", "grpc_status"}
print(seconds, sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""


def test_importing_the_client_is_fast_and_light():
    runs = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout.split(" ", 1)
        for _ in range(3)
    ]

    assert {heavy.strip() for _, heavy in runs} == {"[]"}
    assert min(float(seconds) for seconds, _ in runs) < 0.5  # the fastest: other processes may be busy


def test_what_is_exported_is_what_there_is():
    assert sorted(memory_client.__all__) == memory_client.__all__
    assert all(hasattr(memory_client, name) for name in memory_client.__all__)


def test_describing_a_memory(taught):
    info = taught.describe()

    assert (info.name, info.kind, info.shape, info.dtype) == ("digits", "dgmw", (1, 2, 2), "uint8")
    assert taught.classes == info.classes == (0, 1, 2)
    assert json.loads(json.dumps(info.to_dict()))["classes"] == [0, 1, 2]


def test_describing_a_memory_says_how_its_tasks_use_the_generator(taught, service, analysed):
    service.analysis = [analysed("t0"), analysed("t1", 1)]

    first, second = taught.describe().analysis

    assert (first.task, first.gate, first.erasable, second.reuses) == ("t0", "weight", True, ("t0",))
    assert [layer.layer for layer in second.layers] == ["layer.1", "layer.0"]
    assert second.layers[0] == LayerUsage("layer.1", size=120, reserved=20, reused=10, free=70)
    assert (second.usage.size, second.usage.reserved, second.usage.unused) == (240, 40, 40)
    assert second.trajectory[1] == MaskPoint(100, 50.0, {"layer.0": 0.4, "layer.1": 0.4})
    assert second.hardened == 200
    assert (second.parameters, second.worst_case) == (240, 400)
    assert (second.weight_bytes, second.mask_bytes, second.own_bytes, second.bytes) == (12_000, 25, 900, 12_925)


def test_a_task_of_a_kind_without_masks_has_an_analysis_that_is_empty(taught, service):
    service.analysis = [pb.TaskAnalysis(task="t0")]

    (analysis,) = taught.describe().analysis

    assert analysis == TaskAnalysis("t0")
    assert (analysis.usage, analysis.bytes, analysis.hardened) == (LayerUsage("", 0, 0, 0, 0), 0, None)


def test_listing_memories_and_tasks(taught, server):
    assert [memory.name for memory in Memory.list(server.target)] == ["digits"]
    assert [task.name for task in taught.tasks()] == ["t0"]
    assert json.loads(json.dumps(taught.tasks()[0].to_dict()))["state"] == "LEARNED"


def test_a_memory_that_was_deleted_is_unknown(taught):
    taught.delete()

    with pytest.raises(UnknownMemory, match="learn_task on a name creates"):
        taught.describe()


def test_a_forgotten_task_is_gone_and_the_memory_as_it_is_then_is_returned(taught, service):
    service.faults.retraining = 1
    taught.learn_task((np.zeros((2, 1, 2, 2), np.uint8), [7, 8]), task="t1", progress=False)

    left = taught.forget("t1")

    assert (left.tasks, left.classes, left.complete) == (1, (0, 1, 2), False)
    assert [task.name for task in taught.tasks()] == ["t0"]
    with pytest.raises(UnknownTask):
        taught.forget("t1")


@pytest.mark.parametrize("error", [TaskInUse, TaskUnfinished])
def test_a_task_that_cannot_be_forgotten_says_why(taught, service, error):
    service.faults.forget = {TaskInUse: "TASK_IN_USE", TaskUnfinished: "TASK_UNFINISHED"}[error]

    with pytest.raises(error, match="task t0 cannot be forgotten"):
        taught.forget("t0")


@pytest.mark.parametrize("erasable", [True, False])
def test_that_a_task_shall_be_erasable_is_said_before_its_data(memory, service, erasable):
    memory.learn_task((np.zeros((2, 1, 2, 2), np.uint8), [0, 1]), erasable=erasable, progress=False)

    assert service.lessons["t0"].header.erasable is erasable


@pytest.mark.parametrize("revises", ["t7", None])
def test_which_task_it_repeats_is_said_before_its_data(memory, service, revises):
    memory.learn_task((np.zeros((2, 1, 2, 2), np.uint8), [0, 1]), revises=revises, progress=False)

    assert service.lessons["t0"].header.revises == (revises or "")


def test_who_knows_the_task_has_its_classes_alone_to_choose_from(taught):
    taught.learn_task((np.zeros((2, 1, 2, 2), np.uint8), ["cat", "dog"]), task="t1", progress=False)
    x = np.full((2, 1, 2, 2), 3, np.uint8)

    assert taught.classify(x, task="t0")[0].tolist() == [0, 0]
    labels, probabilities = taught.classify(x, "t1")

    assert (labels.tolist(), probabilities.tolist()) == (["dog", "dog"], [[0, 1], [0, 1]])


def test_classifying_waits_for_a_solver_that_is_trained_anew(taught, service):
    service.faults.retraining = 2

    assert taught.classify(np.zeros((1, 1, 2, 2), np.uint8))[0].tolist() == [0]


def test_a_solver_that_stays_away_is_given_up_with_what_the_server_says(taught, server, service):
    service.faults.retraining, service.faults.retry_after = 10**6, 90.0
    with Memory(server.target, "digits", reconnect=0.2) as memory, pytest.raises(SolverRetraining) as caught:
        memory.classify(np.zeros((1, 1, 2, 2), np.uint8))

    assert str(caught.value) == "the solver is being trained anew. Try again in 90 s"
    assert caught.value.retry_after == 90


def test_classifying_more_than_a_message_holds(taught, service):
    x = np.arange(300_000, dtype=np.uint32).astype(np.uint8).reshape(-1, 1, 1, 1).repeat(4, 2)

    labels, probabilities = taught.classify(x)

    np.testing.assert_array_equal(labels, x[:, 0, 0, 0] % 3)
    assert probabilities.shape == (300_000, 3)
    assert probabilities.dtype == np.float32
    assert all(len(request.x) <= 512 * 1024 for request in service.requests[1:])


def test_a_call_is_repeated_while_the_server_is_away(taught, service):
    service.faults.lost_unary = 2

    assert taught.classes == (0, 1, 2)


def test_a_server_that_stays_away_is_given_up(server):
    server.stop()
    with Memory(server.target, "digits", reconnect=0.3) as memory, pytest.raises(ServerUnavailable, match="serve"):
        memory.describe()


def test_a_closed_memory_opens_again(taught):
    taught.close()

    assert taught.classes == (0, 1, 2)


def test_its_text_says_where_it_is():
    assert repr(Memory("host:1", name="digits")) == "Memory('host:1', name='digits')"


@pytest.mark.parametrize("arguments", [{"target": ""}, {"name": ""}])
def test_an_empty_name_or_target_is_refused(arguments):
    with pytest.raises(InvalidInput, match="empty"):
        Memory(**arguments)


def test_calls_share_the_methods_of_their_connection(taught):
    methods = taught._connection.stub
    taught.sample(n=6)
    assert taught._connection.stub is methods
    taught.close()
    assert taught._connection.stub is not methods


def test_a_memory_survives_pickling_without_its_connection(taught):
    other = pickle.loads(pickle.dumps(taught))

    assert repr(other) == repr(taught)
    assert other.classes == (0, 1, 2)
    other.close()


@pytest.mark.parametrize("sent", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_stream_that_is_sent_to_another_process_says_what_is_sent_instead(taught, sent):
    with taught.stream() as stream, pytest.raises(TypeError, match=r"ReplayDataset, or pickle the Memory.*start_at="):
        sent(stream)


def test_a_spawned_process_samples_with_the_memory_that_it_was_given(taught):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        x, y = pool.apply(taught.sample, kwds={"n": 6, "seed": 1})

    np.testing.assert_array_equal(x, taught.sample(n=6, seed=1)[0])
    assert len(y) == 6


FORK = """
import gc, os, sys
from memory_client import Memory
memory = Memory(sys.argv[1], "digits")
def sampled():
    x, y = memory.sample(n=8, seed=1)
    with memory.stream(batch_size=4, seed=1) as batches:
        return len(y) == 8 and len(next(batches)[1]) == 4
def fork():
    child = os.fork()
    if child == 0:
        ok = sampled()
        gc.collect()  # of what the parent left
        os._exit(0 if ok else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
with memory.stream(batch_size=4, seed=1) as stream:
    first = next(stream)
    in_the_middle = fork()
    second = next(stream)
after = fork()
with memory.stream(batch_size=4, seed=1) as stream:
    for x, y in first, second:
        again = next(stream)
        assert (again[0] == x).all() and (again[1] == y).all()
sys.exit(in_the_middle or after or not sampled())
"""

FORK_A_STREAM = """
import os, sys
from memory_client import ForkedWhileStreaming, Memory
stream = Memory(sys.argv[1], "digits").stream(batch_size=4)
next(stream)
child = os.fork()
if child == 0:
    try:
        next(stream)
    except ForkedWhileStreaming as error:
        os._exit(0 if "open it in the worker" in str(error) else 1)
    os._exit(2)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
next(stream)
sys.exit(code)
"""

FORK_IN_A_CALL = """
import os, sys
from memory_client import ForkedWhileStreaming, Memory, _forks
class Staying:
    open = True
    def interrupt(self):
        return False
call = _forks.opened(Staying)
child = os.fork()
if child == 0:
    try:
        Memory(sys.argv[1], "digits").classes
    except ForkedWhileStreaming as error:
        os._exit(0 if "multiprocessing_context='spawn'" in str(error) else 1)
    os._exit(2)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(code or not Memory(sys.argv[1], "digits").classes)
"""


@pytest.mark.parametrize("program", [FORK, FORK_IN_A_CALL])
def test_a_forked_child_samples_unless_its_parent_was_in_a_call_that_stays(program, taught, server):
    done = subprocess.run(
        [sys.executable, "-c", program, server.target],
        env={**os.environ, "GRPC_VERBOSITY": "INFO"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "skipping fork() handlers" not in done.stderr  # no thread was inside of gRPC


@pytest.mark.parametrize("verb", ["sample", "result", "sleep", "export"])
def test_who_waits_is_told_that_another_thread_has_closed_the_memory(taught, service, tmp_path, verb):
    service.faults.silent = True
    service.states = [pb.Task(task="t0", state=pb.LEARNING)]
    waited = {
        "sample": taught.sample,
        "result": taught.task("t0").result,
        "sleep": taught.sleep,
        "export": lambda: taught.export(tmp_path / "file"),
    }[verb]
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(waited)
        while not any(each.name == "memory-stream" for each in threading.enumerate()):
            time.sleep(0.01)
        taught.close()
        with pytest.raises(MemoryClosed, match="the memory was closed while"):
            waiting.result(10)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_is_not_read_by_a_forked_child(taught, server):
    done = subprocess.run(
        [sys.executable, "-c", FORK_A_STREAM, server.target], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr


def test_a_stream_that_is_closed_in_a_forked_child_goes_on_in_its_parent(taught, monkeypatch):
    with taught.stream(batch_size=4) as stream:
        next(stream)
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            stream._relay.close()  # what a stream that is closed, or dropped, calls
        assert len(next(stream)[1]) == 4
