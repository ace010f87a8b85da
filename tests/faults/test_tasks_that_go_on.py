"""A task whose server or worker died, or was stopped, goes on from its checkpoint when it is sent again."""

import secrets
import signal
import socket
import threading

import psutil
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory, TaskInterrupted, TaskState

SMALL = {"width": 4, "noise": 8}


class Seen:
    """Listens to a task, and keeps what it heard."""

    def __init__(self):
        self.tasks = []

    def sent(self, rows, nbytes):
        pass

    def task(self, task):
        self.tasks.append(task)

    def close(self):
        pass

    @property
    def resumed_from(self):
        return max((task.progress.resumed_from_step for task in self.tasks if task.progress), default=0)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def durable(new_server):
    """Makes a server that keeps checkpoints, on one port for all its lives."""

    def make(seconds, **chosen):
        key = secrets.token_hex(32)
        chosen |= {"checkpoint_seconds": seconds, "encryption_key": key, "grace_seconds": 20}
        return new_server(port=free_port(), **chosen)

    return make


def checkpoints(server):
    return [path for path in (server.data_dir / "checkpoints").glob("*") if not path.name.endswith(".unfinished")]


def worker_of(server):
    children = psutil.Process(server.process.pid).children(recursive=True)
    (worker,) = (child for child in children if "memory_server.learning.worker" in child.cmdline())
    return worker


def kill_the_server(server):
    server.restart(signal.SIGKILL)


def kill_the_worker(server):
    worker_of(server).kill()


def hang_the_worker(server):
    worker_of(server).suspend()


@pytest.mark.parametrize(
    ("strike", "reason"),
    [
        (kill_the_server, "TASK_INTERRUPTED"),
        pytest.param(kill_the_worker, "WORKER_DIED", marks=pytest.mark.slow),
        pytest.param(hang_the_worker, "WORKER_SILENT", marks=pytest.mark.slow),
    ],
)
def test_a_task_whose_server_or_worker_goes_is_sent_again_by_itself_and_goes_on(
    strike, reason, durable, make_images, eventually
):
    server = durable(0.2, worker_silence_seconds=60).start()
    seen, learned = Seen(), []
    with Memory(server.target, "m", options=SMALL, reconnect=120) as memory:
        batches = [make_images(n=40)]
        learning = threading.Thread(
            target=lambda: learned.append(memory.learn_task(batches, "t0", steps=150, progress=seen))
        )
        learning.start()
        eventually(lambda: checkpoints(server), seconds=120)
        strike(server)
        learning.join(280)
    assert learned and learned[0].steps == 150
    assert seen.resumed_from > 0
    assert [task.error_reason for task in seen.tasks if task.state is TaskState.FAILED] == [reason]
    assert checkpoints(server) == []


@pytest.mark.slow
def test_a_server_that_is_stopped_puts_down_what_it_trains_and_tells_those_who_wait(
    durable, make_images, eventually, connect
):
    server = durable(3600).start()
    refused = []

    def learn_once(memory):
        with pytest.raises(TaskInterrupted, match="send it again") as error:
            memory.learn_task(iter([make_images(n=40)]), "t0", steps=1_000_000)
        refused.append(error.value.reason)

    with Memory(server.target, "m", options=SMALL, reconnect=120) as memory:
        learning = threading.Thread(target=learn_once, args=[memory])
        learning.start()
        wire = connect(server)
        asked = pb.GetTaskRequest(memory="m", task="t0")
        eventually(lambda: memory_has(wire, "m") and wire.stub.GetTask(asked).progress.step > 35, seconds=200)
        assert checkpoints(server) == []
        assert server.stop() == 0
        assert len(checkpoints(server)) == 1
        server.start()
        learning.join(120)
        assert refused == ["TASK_INTERRUPTED"]
        handle = memory.learn_task([make_images(n=40)], "t0", steps=1_000_000, wait=False)
        step = next(task.progress.resumed_from_step for task in handle.watch() if task.progress)
        assert step > 35
        handle.cancel()
    assert checkpoints(server) == []


def memory_has(wire, memory):
    return any(each.name == memory for each in wire.stub.ListMemories(pb.ListMemoriesRequest()).memories)
