"""What all tests share: a real server in a process of its own, and a plain client of its wire."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2_grpc
from grpc_status import rpc_status
from hypothesis import settings
from jaxtyping import install_import_hook
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub
from memory_client._shared import SharedRing

# Shapes and dtypes in the annotations of these modules are enforced while tests run.
CHECKED = [f"dgm_core.{part}" for part in ("networks", "losses", "masking", "training", "evaluation")]
CHECKED += ["memory_server.sampling.noise", "memory_server.sampling.tiles"]
install_import_hook(CHECKED, "beartype.beartype")

# Tests run beside servers and workers: threads of one process that spin for each other would starve them all.
torch.set_num_threads(1)

# How fast a property holds depends on what else the machine does.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

READY = "memory-server ready on "
IMAGE = (1, 8, 8)
STEPS = 10
PATIENCE = 60.0


class ServerProcess:
    """`memory-server serve` in a process of its own; its output, temporary files and data lie under `home`."""

    def __init__(self, home: Path, **chosen: Any) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.temporary = home / "tmp"
        self.stdout, self.stderr = home / "stdout", home / "stderr"
        self.port = chosen.pop("port", 0)
        self.spawn = chosen.pop("spawn", subprocess.Popen)
        self.settings = {"learners": 2, "training_threads": 1, "grace_seconds": 3, **chosen}
        self.target = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.temporary.mkdir(parents=True, exist_ok=True)

    def start(self) -> "ServerProcess":
        """Starts it and waits until it is ready."""
        self.launch()
        return self.ready()

    def ready(self) -> "ServerProcess":
        """Waits until it is."""
        deadline = time.monotonic() + PATIENCE
        while not (line := self.stdout.read_text()).endswith("\n"):
            assert self.process is not None and self.process.poll() is None, self.stderr.read_text()
            assert time.monotonic() < deadline, f"not ready in time: {self.stderr.read_text()}"
            time.sleep(0.05)
        assert line.startswith(READY), line
        self.target = line.removeprefix(READY).strip()
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts it without waiting."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MEMORY_SERVER_")}
        environment |= {f"MEMORY_SERVER_{key.upper()}": str(value) for key, value in self.settings.items()}
        environment |= {"TMPDIR": str(self.temporary)}
        arguments = [*(sys.executable, "-m", "memory_server", "serve"), "--port", str(self.port)]
        arguments += ["--data-dir", str(self.data_dir)]
        with self.stdout.open("wb") as out, self.stderr.open("ab") as err:
            self.process = self.spawn(arguments, env=environment, stdout=out, stderr=err, cwd=self.home)
        return self.process

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def restart(self, number: int = signal.SIGTERM) -> "ServerProcess":
        """Ends it with a signal and starts it again on the same data."""
        self.stop(number)
        return self.start()

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        return [json.loads(line) for line in self.stderr.read_text().splitlines() if line.startswith("{")]

    @property
    def metrics_address(self) -> str:
        """Host and port of its Prometheus metrics."""
        return [line["address"] for line in self.log if line["event"] == "metrics"][-1]

    @property
    def metrics(self) -> str:
        """All its Prometheus metrics."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """The value of one Prometheus metric, given with its labels; 0 if it is not there."""
        values = [line.rsplit(" ", 1) for line in self.metrics.splitlines()]
        return next((float(value) for key, value in values if key == name), 0.0)

    def end(self) -> None:
        """Leaves no process behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@dataclass
class Samples:
    """What a Sample stream gave."""

    headers: list[pb.SampleHeader] = field(default_factory=list)
    chunks: list[pb.SampleChunk] = field(default_factory=list)

    @property
    def x(self) -> bytes:
        return b"".join(chunk.x for chunk in self.chunks)

    @property
    def y(self) -> list[int | str]:
        """The labels themselves."""
        classes = [label_of(message) for message in self.headers[-1].classes]
        indices = np.frombuffer(b"".join(chunk.y for chunk in self.chunks), "<i4")
        return [classes[index] for index in indices]

    def rows(self, shape: tuple[int, ...] = IMAGE, dtype: str = "uint8") -> np.ndarray:
        return np.frombuffer(self.x, dtype).reshape(-1, *shape)


@dataclass(frozen=True)
class Refusal:
    """What an error says."""

    code: grpc.StatusCode
    reason: str
    field: str
    message: str
    retry_after: float | None


class Wire:
    """A client that speaks the raw wire, so that it can also be wrong in every way."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target)
        self.stub = MemoryServiceStub(self.channel)

    def close(self) -> None:
        self.channel.close()

    @staticmethod
    def header(memory: str, task: str, shape: tuple[int, ...] = IMAGE, **fields: Any) -> pb.LearnTaskRequest:
        dtype = fields.pop("dtype", pb.UINT8 if len(shape) == 3 else pb.FLOAT32)
        spec = pb.DataSpec(shape=shape, dtype=dtype)
        options = fields.pop("options", {"width": "4", "noise": "8"})
        fields = {"steps": STEPS, **fields}
        return pb.LearnTaskRequest(
            header=pb.LearnTaskHeader(memory=memory, task=task, spec=spec, options=options, **fields)
        )

    @staticmethod
    def chunk(x: np.ndarray, y: np.ndarray, new_classes: tuple[int | str, ...] = ()) -> pb.LearnTaskRequest:
        classes = [label_message(label) for label in new_classes]
        return pb.LearnTaskRequest(
            chunk=pb.LearnTaskChunk(x=x.tobytes(), y=y.astype("<i4").tobytes(), new_classes=classes)
        )

    @staticmethod
    def finish(x: np.ndarray, y: np.ndarray, classes: tuple[int | str, ...], **wrong: Any) -> pb.LearnTaskRequest:
        of_labels = hashlib.sha256(b"".join(encoded(classes[index]) for index in y)).digest()
        digest = hashlib.sha256(hashlib.sha256(x.tobytes()).digest() + of_labels).digest()
        return pb.LearnTaskRequest(finish=pb.LearnTaskFinish(**{"count": len(y), "digest": digest, **wrong}))

    def messages(
        self, memory: str, task: str, x: np.ndarray, y: np.ndarray, classes: tuple[int | str, ...], **header: Any
    ) -> Iterator[pb.LearnTaskRequest]:
        """A correct upload in two chunks."""
        half = len(y) // 2
        yield self.header(memory, task, x.shape[1:], **header)
        yield self.chunk(x[:half], y[:half], classes)
        yield self.chunk(x[half:], y[half:])
        yield self.finish(x, y, classes)

    def submit(
        self, memory: str, task: str, classes: tuple[int | str, ...] = (0, 1), n: int = 40, **header: Any
    ) -> pb.Task:
        """Uploads a task of made-up images."""
        x, y = images(n=n, classes=classes)
        return self.stub.LearnTask(self.messages(memory, task, x, y, classes, **header), timeout=PATIENCE)

    def learn(
        self, memory: str, task: str, classes: tuple[int | str, ...] = (0, 1), n: int = 40, **header: Any
    ) -> pb.Task:
        """Uploads a task and waits until it is learned."""
        self.submit(memory, task, classes, n, **header)
        final = self.final(memory, task)
        assert final.state == pb.LEARNED, final
        return final

    def final(self, memory: str, task: str) -> pb.Task:
        """Waits for the final state of a task."""
        *_, final = self.stub.WatchTask(pb.WatchTaskRequest(memory=memory, task=task), timeout=PATIENCE)
        return final

    def sample(self, memory: str, classes: tuple[int | str, ...] = (), **request: Any) -> Samples:
        """A whole finite stream."""
        samples = Samples()
        asked = pb.SampleRequest(memory=memory, classes=[label_message(label) for label in classes], **request)
        for message in self.stub.Sample(asked, timeout=PATIENCE):
            if message.WhichOneof("message") == "header":
                samples.headers.append(message.header)
            elif message.chunk.x:
                samples.chunks.append(message.chunk)
        return samples

    def everything(self) -> list[Any]:
        """All memories and all their tasks, to compare before and after."""
        memories = self.stub.ListMemories(pb.ListMemoriesRequest(), timeout=PATIENCE).memories
        tasks = [self.stub.ListTasks(pb.ListTasksRequest(memory=one.name), timeout=PATIENCE).tasks for one in memories]
        return [[one.SerializeToString(deterministic=True) for one in memories], *map(str, tasks)]

    @staticmethod
    def refusal(call: Callable[[], Any]) -> Refusal:
        """The error that a call ends with."""
        with pytest.raises(grpc.RpcError) as caught:
            call()
        status = rpc_status.from_call(caught.value)
        assert status is not None, caught.value
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        for detail in status.details:
            for kind in (info, bad, retry):
                detail.Unpack(kind)
        assert info.domain == "memory_api"
        where = bad.field_violations[0].field if bad.field_violations else ""
        delay = retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None
        return Refusal(caught.value.code(), info.reason, where, status.message, delay)


def label_message(label: int | str) -> pb.ClassLabel:
    return pb.ClassLabel(integer=label) if isinstance(label, int) else pb.ClassLabel(text=label)


def label_of(message: pb.ClassLabel) -> int | str:
    return message.integer if message.WhichOneof("label") == "integer" else message.text


def encoded(label: int | str) -> bytes:
    """A label as the digest of memory.proto wants it; written apart from the server's own."""
    if isinstance(label, int):
        return b"i" + struct.pack("<q", label)
    return b"s" + struct.pack("<I", len(label.encode())) + label.encode()


def images(n: int = 40, classes: tuple[int | str, ...] = (0, 1), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Dark noise with one bright row or column per class: uint8 (n, 1, 8, 8), int32 (n,)."""
    x = np.random.default_rng(seed).integers(0, 60, (n, *IMAGE), dtype=np.uint8)
    y = np.arange(n, dtype=np.int32) % len(classes)
    for row, index in zip(x, y, strict=True):
        place = sum(encoded(classes[index])) % 16
        row[0, place % 8, :] = 255 if place < 8 else row[0, place % 8, :]
        row[0, :, place % 8] = 255 if place >= 8 else row[0, :, place % 8]
    return x, y


@pytest.fixture(scope="session")
def make_images() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`images(n, classes, seed)`: tiny pictures whose classes can be told apart."""
    return images


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what needs a CUDA device where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests that leave it as it was, or use a memory of their own."""
    home = tmp_path_factory.mktemp("server")
    process = ServerProcess(home, metrics_port=0, max_samples_per_request=5000, unix_socket=home / "socket")
    yield process.start()
    process.end()


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Makes servers for one test alone; they are not started yet."""
    made: list[ServerProcess] = []

    def make(name: str = "server", **chosen: Any) -> ServerProcess:
        made.append(ServerProcess(tmp_path / name, **chosen))
        return made[-1]

    yield make
    for process in made:
        process.end()


@pytest.fixture(scope="session")
def wire(server: ServerProcess) -> Iterator[Wire]:
    """A client of the shared server."""
    client = Wire(server.target)
    yield client
    client.close()


@pytest.fixture
def connect() -> Iterator[Callable[[ServerProcess], Wire]]:
    """Makes clients of a test's own servers."""
    made: list[Wire] = []

    def make(process: ServerProcess) -> Wire:
        made.append(Wire(process.target))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def taught(wire: Wire) -> str:
    """A memory on the shared server with tasks t0 (classes 0, 1) and t1 (classes 2, 3), which nobody changes."""
    wire.learn("taught", "t0", (0, 1))
    wire.learn("taught", "t1", (2, 3))
    return "taught"


@pytest.fixture(scope="module")
def small_batches() -> Iterator[None]:
    """Learns from small batches in this process: bytes and books are kept for any size, in a fifth of the time."""
    from dgm_core.memories import KINDS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dgm_core.training.classifying.BATCH", 16)
        for kind in KINDS.values():
            patch.setattr(kind, "recipes", {**kind.recipes, "fast": replace(kind.recipes["fast"], batch=8)})
        yield


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Waits for a condition to become true, for `PATIENCE` unless told otherwise."""

    def wait(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)

    return wait


class Checked(health.HealthServicer):
    """A health service, and nothing else, whose names a test sets."""

    target = ""


@pytest.fixture
def checked() -> Iterator[Checked]:
    """One that answers at `target`."""
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    servicer = Checked()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.target = f"localhost:{server.add_insecure_port('localhost:0')}"
    server.start()
    yield servicer
    server.stop(None).wait()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of what was taken out of shared memory."""
    lengths: list[int] = []
    take = SharedRing.take
    monkeypatch.setattr(SharedRing, "take", lambda self, rows: (lengths.append(rows.length), take(self, rows))[1])
    return lengths
