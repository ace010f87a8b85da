"""A small gRPC server that keeps the wire's promises, and breaks them where a test says so."""
# ruff: noqa: N802 - methods are named as in memory.proto

import hashlib
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice

import grpc
import numpy as np
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceServicer, add_MemoryServiceServicer_to_server
from memory_client import Memory

CODES = {
    "UNKNOWN_MEMORY": code_pb2.NOT_FOUND,
    "UNKNOWN_TASK": code_pb2.NOT_FOUND,
    "UNKNOWN_CLASS": code_pb2.NOT_FOUND,
    "EMPTY_MEMORY": code_pb2.FAILED_PRECONDITION,
    "CANNOT_BLEND": code_pb2.FAILED_PRECONDITION,
    "TASK_FINISHED": code_pb2.FAILED_PRECONDITION,
    "CANNOT_SLEEP": code_pb2.FAILED_PRECONDITION,
    "TASK_IN_USE": code_pb2.FAILED_PRECONDITION,
    "TASK_UNFINISHED": code_pb2.FAILED_PRECONDITION,
    "BAD_REQUEST": code_pb2.INVALID_ARGUMENT,
    "SERVER_BUSY": code_pb2.RESOURCE_EXHAUSTED,
    "SOLVER_RETRAINING": code_pb2.UNAVAILABLE,
}


@dataclass
class Lesson:
    """One task as it arrived."""

    header: pb.LearnTaskHeader
    x: bytes
    labels: list[object]
    task: pb.Task
    chunk_bytes: list[int]


EXPORTED = b"memory" + hashlib.sha256(b"memory").digest()


@dataclass
class Faults:
    """What goes wrong, each as often as it says."""

    busy: int = 0
    retry_after: float = 0.05
    lost_after_chunks: list[int] = field(default_factory=list)  # per Sample call: break with UNAVAILABLE after so many
    silent: bool = False  # Sample, WatchTask, Sleep and ExportMemory say nothing after their first messages
    refuse: str = ""  # LearnTask refuses the header with this description
    slow: float = 0.0  # seconds for which LearnTask looks at the header
    lost_unary: int = 0
    watch_lost: int = 0
    interrupted: int = 0  # tasks that WatchTask shows to have failed
    why: str = "TASK_INTERRUPTED"  # they have
    awake: bool = False  # Sleep finds nothing to consolidate
    lost_asleep: int = 0  # Sleep calls that break; with the last, it is over
    retraining: int = 0  # Classify calls that find the solver retraining
    forget: str = ""  # ForgetTask refuses for this reason
    blend: str = ""  # Interpolate refuses for this reason


@dataclass
class Service(MemoryServiceServicer):
    """Holds lessons, and samples rows that are a function of (seed, row): x[r] is filled with it, y[r] = r mod C."""

    shape: tuple[int, ...] = (1, 2, 2)
    cut: Callable[[int], int] = field(default=lambda row: 5)  # rows of the chunk that starts at a row
    lessons: dict[str, Lesson] = field(default_factory=dict)
    states: list[pb.Task] = field(default_factory=list)  # what WatchTask shows before the task itself
    faults: Faults = field(default_factory=Faults)
    requests: list[object] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    early: bool | None = None  # whether data came before a slow LearnTask had accepted the header
    revision: int = 1
    analysis: list[pb.TaskAnalysis] = field(default_factory=list)  # what GetMemory says of the tasks

    def LearnTask(self, request_iterator, context):
        self.requests.append("LearnTask")
        context.add_callback(self._note_cancellation(context))
        header = next(request_iterator).header
        if self.faults.busy:
            self.faults.busy -= 1
            fail(context, "SERVER_BUSY", "the ingest budget is full", retry_after=self.faults.retry_after)
        if self.faults.refuse:
            fail(context, "BAD_REQUEST", f"header.spec: {self.faults.refuse}", ("header.spec", self.faults.refuse))
        if self.faults.slow:
            request_iterator = self._hesitating(request_iterator)
        context.send_initial_metadata(())
        try:
            lesson = receive(header, request_iterator)
        except BrokenOff:  # gRPC may end the messages of a call before it says that the call is cancelled
            self.cancelled.set()
            raise
        if lesson is None:
            fail(context, "BAD_REQUEST", "finish: count or digest differ from what arrived", ("finish", "differs"))
        self.lessons[header.task] = lesson
        context.set_code(grpc.StatusCode.OK)
        return queued(lesson.task)

    def _hesitating(self, messages: Iterator[pb.LearnTaskRequest]) -> Iterator[pb.LearnTaskRequest]:
        """The messages; notes whether one came before the header was accepted."""
        arrived: queue.Queue[pb.LearnTaskRequest | None] = queue.Queue()

        def take() -> None:
            with suppress(Exception):  # the call has ended
                for message in messages:
                    arrived.put(message)
            arrived.put(None)

        threading.Thread(target=take, daemon=True).start()
        time.sleep(self.faults.slow)
        self.early = not arrived.empty()
        return iter(arrived.get, None)

    def WatchTask(self, request, context):
        lesson = self._lesson(request, context)
        yield from self.states
        if self.faults.watch_lost:
            self.faults.watch_lost -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        if self.faults.silent:
            hang(context)
        if self.faults.interrupted:
            self.faults.interrupted -= 1
            yield pb.Task(task=request.task, state=pb.FAILED, error_reason=self.faults.why, error="the why")
            return
        yield lesson.task
        if request.until_consolidated:
            if self.faults.awake:
                fail(context, "CANNOT_SLEEP", "memory 'digits' has nothing to consolidate")
            lesson.task.consolidated = True
            yield lesson.task

    def GetTask(self, request, context):
        return self._lesson(request, context).task

    def CancelTask(self, request, context):
        lesson = self._lesson(request, context)
        if lesson.task.state == pb.LEARNED:
            fail(context, "TASK_FINISHED", "the task has been learned")
        lesson.task.state = pb.CANCELLED
        return lesson.task

    def ForgetTask(self, request, context):
        self._lesson(request, context)
        if self.faults.forget:
            fail(context, self.faults.forget, "task t0 cannot be forgotten: the later task t1 reuses what it reserved")
        del self.lessons[request.task]
        self.revision += 1
        return self._memory(request.memory)

    def Sleep(self, request, context):
        self.requests.append(request)
        if not self.lessons or self.faults.awake:
            fail(context, "CANNOT_SLEEP", "memory 'digits' has nothing to consolidate")
        yield pb.SleepResponse(queued=pb.SleepQueued(waiting_for="queued behind task b0", queue_position=1))
        yield pb.SleepResponse(progress=pb.TaskProgress(seconds_left=-1))
        yield pb.SleepResponse(progress=pb.TaskProgress(phase="generator", step=4, steps=10, fraction=0.4))
        if self.faults.silent:
            hang(context)
        if self.faults.lost_asleep:
            self.faults.lost_asleep -= 1
            self.faults.awake = self.faults.lost_asleep == 0
            context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        self.revision += 1
        yield pb.SleepResponse(memory=self._memory(request.memory))

    def ListTasks(self, request, context):
        return pb.ListTasksResponse(tasks=[lesson.task for lesson in self.lessons.values()])

    def GetMemory(self, request, context):
        if self.faults.lost_unary:
            self.faults.lost_unary -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        if not self.lessons:
            fail(context, "UNKNOWN_MEMORY", f"there is no memory {request.name!r}; there are none yet")
        memory = self._memory(request.name)
        memory.analysis.extend([] if request.brief else self.analysis)
        return memory

    def ListMemories(self, request, context):
        return pb.ListMemoriesResponse(memories=[self._memory("digits")] if self.lessons else [])

    def DeleteMemory(self, request, context):
        self.lessons.clear()
        return pb.DeleteMemoryResponse()

    def Sample(self, request, context):
        self.requests.append(request)
        context.add_callback(self._note_cancellation(context))
        known = self._classes()
        if not known:
            fail(context, "EMPTY_MEMORY", "nothing has been learned yet; teach it a task first")
        if request.HasField("n") and request.n < 1:
            fail(context, "BAD_REQUEST", f"n: at least 1 row, not {request.n}", ("n", "at least 1 row"))
        classes = list(request.classes) or known
        if any(label not in known for label in classes):
            fail(context, "UNKNOWN_CLASS", "memory 'digits' has not learned this class; the classes are ...")
        dtype = request.format.dtype or pb.UINT8
        spec = pb.DataSpec(shape=self.shape, dtype=dtype)
        yield pb.SampleResponse(
            header=pb.SampleHeader(
                revision=request.revision or self.revision, spec=spec, classes=classes, batch_size=request.batch_size
            )
        )
        yield pb.SampleResponse(chunk=pb.SampleChunk(row=request.start_at * request.batch_size))  # a heartbeat
        if self.faults.silent:
            hang(context)
        left = self.faults.lost_after_chunks.pop(0) if self.faults.lost_after_chunks else None
        for chunk in self._chunks(request, len(classes), dtype):
            if left == 0:
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            left = None if left is None else left - 1
            yield pb.SampleResponse(chunk=chunk)
        if left == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        context.set_code(grpc.StatusCode.OK)

    def ExportMemory(self, request, context):
        yield pb.ExportMemoryResponse(header=pb.ExportMemoryHeader(bytes=len(EXPORTED)))
        if self.faults.silent:
            hang(context)
        yield pb.ExportMemoryResponse(chunk=EXPORTED)

    def Interpolate(self, request, context):
        """Row r of weight w is filled with 10 (r mod 10) + 100 w times the share of groups and layers that are on."""
        self.requests.append(request)
        if self.faults.blend:
            fail(context, self.faults.blend, "a memory of kind dgmw has no styles to blend")
        if not request.weights or request.n < 1:
            fail(context, "BAD_REQUEST", "weights: name at least one", ("weights", "name at least one"))
        dtype = request.format.dtype or pb.UINT8
        yield pb.SampleResponse(
            header=pb.SampleHeader(
                revision=request.revision or self.revision,
                spec=pb.DataSpec(shape=self.shape, dtype=dtype),
                classes=[request.start_class if request.HasField("start_class") else pb.ClassLabel(integer=0)],
                batch_size=request.n,
            )
        )
        left = self.faults.lost_after_chunks.pop(0) if self.faults.lost_after_chunks else None
        total = request.n * len(request.weights)
        row = request.start_at * request.n
        while row < total:
            if left == 0:
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            left = None if left is None else left - 1
            rows = np.arange(row, min(total, row + self.cut(row)))
            values = blend(rows, request)
            x = np.broadcast_to(values.reshape(-1, *(1,) * len(self.shape)), (len(rows), *self.shape))
            x = x.astype(np.uint8) if dtype == pb.UINT8 else (x / 127.5 - 1).astype("<f4")
            yield pb.SampleResponse(
                chunk=pb.SampleChunk(row=row, x=x.tobytes(), y=np.zeros(len(rows), "<i4").tobytes())
            )
            row += len(rows)

    def Classify(self, request, context):
        self.requests.append(request)
        if self.faults.retraining:
            self.faults.retraining -= 1
            fail(context, "SOLVER_RETRAINING", "the solver is being trained anew", retry_after=self.faults.retry_after)
        x = np.frombuffer(request.x, "u1" if request.spec.dtype == pb.UINT8 else "<f4")
        x = x.reshape(-1, *request.spec.shape)
        classes = list(self.lessons[request.task].task.classes) if request.task else self._classes()
        y = (x.reshape(len(x), -1)[:, 0].astype(int) % len(classes)).astype("<i4")
        return pb.ClassifyResponse(
            classes=classes,
            y=y.tobytes(),
            probabilities=np.eye(len(classes), dtype="<f4")[y].tobytes(),
            revision=self.revision,
        )

    def _chunks(self, request, classes: int, dtype: int) -> Iterator[pb.SampleChunk]:
        wanted = self._wanted(request)
        while rows := list(islice(wanted, 1)):
            rows += islice(wanted, self.cut(rows[0]) - 1)
            x, y = expected(rows, self.shape, classes, request.seed)
            x = x if dtype == pb.UINT8 else x.astype("<f4") / 127.5 - 1
            yield pb.SampleChunk(row=rows[0], x=x.tobytes(), y=y.astype("<i4").tobytes())

    def _wanted(self, request) -> Iterator[int]:
        """Positions of the rows that are asked for."""
        for batch in count(request.start_at, max(1, request.stride)):
            first = batch * request.batch_size
            if request.HasField("n") and first >= request.n:
                return
            last = first + request.batch_size
            yield from range(first, min(last, request.n) if request.HasField("n") else last)

    def _classes(self) -> list[pb.ClassLabel]:
        found: list[pb.ClassLabel] = []
        for lesson in self.lessons.values():
            found += [label for label in lesson.task.classes if label not in found]
        return found

    def _memory(self, name: str) -> pb.Memory:
        return pb.Memory(
            name=name,
            kind="dgmw",
            options={"seed": "0"},
            spec=pb.DataSpec(shape=self.shape, dtype=pb.UINT8),
            revision=self.revision,
            classes=self._classes(),
            bytes=4096,
            tasks=len(self.lessons),
            complete=not self.faults.retraining,
            drowsy=not self.faults.awake,
        )

    def _lesson(self, request, context) -> Lesson:
        if request.task not in self.lessons:
            fail(context, "UNKNOWN_TASK", f"memory {request.memory!r} has no task {request.task!r}")
        return self.lessons[request.task]

    def _note_cancellation(self, context):
        def ended():
            if context.code() is None:
                self.cancelled.set()

        return ended


def expected(rows: Sequence[int], shape: tuple[int, ...], classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the service gives for these rows: x and the class indices y."""
    values = np.array([(seed * 7 + row * 13) % 256 for row in rows], np.uint8)
    x = np.broadcast_to(values.reshape(-1, *(1,) * len(shape)), (len(values), *shape))
    return x, np.array([row % classes for row in rows])


def blend(rows: np.ndarray, request: pb.InterpolateRequest) -> np.ndarray:
    """What the service blends into these rows."""
    on = (len(request.groups) or 3) / 3 * (len(request.layers) or 2) / 2
    return 10 * (rows % request.n % 10) + np.round(100 * on * np.array(request.weights)[rows // request.n])


class BrokenOff(Exception):
    """An upload ended without its finish."""


def receive(header: pb.LearnTaskHeader, messages: Iterator[pb.LearnTaskRequest]) -> Lesson | None:
    """Reads a task and checks it against its finish, by the words of memory.proto; None if they differ."""
    x, table, labels, sizes = b"", [], [], []
    for message in messages:
        if message.HasField("finish"):
            coded = b"".join(code(label) for label in labels)
            digest = hashlib.sha256(hashlib.sha256(x).digest() + hashlib.sha256(coded).digest()).digest()
            if (message.finish.count, message.finish.digest) != (len(labels), digest):
                return None
            task = pb.Task(memory=header.memory, task=header.task, state=pb.LEARNED, classes=table, count=len(labels))
            task.revision, task.quality, task.learn_seconds = 1, 0.96, 1.5
            return Lesson(header, x, labels, task, sizes)
        table += message.chunk.new_classes
        x += message.chunk.x
        sizes.append(len(message.chunk.x))
        labels += [
            table[i].integer if table[i].HasField("integer") else table[i].text
            for (i,) in struct.iter_unpack("<i", message.chunk.y)
        ]
    raise BrokenOff


def code(label: object) -> bytes:
    if isinstance(label, int):
        return b"i" + struct.pack("<q", label)
    return b"s" + struct.pack("<I", len(label.encode())) + label.encode()


def task_analysis(task: str, index: int = 0, gate: str = "weight", layers: int = 2) -> pb.TaskAnalysis:
    """What a masked kind measures of its task number `index`: every layer has 100 gates at first and grows by 20."""
    size = 100 + 20 * index
    names = [f"layer.{number}" for number in reversed(range(layers))]  # neither sorted nor in the order of a hash
    usage = {"size": size, "reserved": 20 if index else 30, "reused": 10 * index, "free": 70}
    trajectory = (
        []
        if gate == "style"
        else [
            pb.MaskPoint(step=step, slope=slope, occupancy=dict.fromkeys(names, 0.5 - step / 1000))
            for step, slope in ((0, 0.5), (100, 50.0), (200, 0.0))
        ]
    )
    return pb.TaskAnalysis(
        task=task,
        gate=gate,
        layers=[pb.LayerUsage(layer=name, **usage) for name in names],
        trajectory=trajectory,
        parameters=layers * size,
        worst_case=layers * 100 * (index + 1),
        weight_bytes=12_000,
        mask_bytes=25,
        own_bytes=900,
        erasable=index == 0,
        reuses=[f"t{earlier}" for earlier in range(index)],
    )


def queued(task: pb.Task) -> pb.Task:
    return pb.Task(memory=task.memory, task=task.task, state=pb.QUEUED, classes=task.classes, count=task.count)


def hang(context) -> None:
    while context.is_active():
        threading.Event().wait(0.05)


def fail(
    context, reason: str, message: str, violation: tuple[str, str] | None = None, retry_after: float | None = None
):
    details = [error_details_pb2.ErrorInfo(reason=reason, domain="memory_api")]
    if violation:
        bad = error_details_pb2.BadRequest.FieldViolation(field=violation[0], description=violation[1])
        details.append(error_details_pb2.BadRequest(field_violations=[bad]))
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=CODES[reason], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    context.abort_with_status(rpc_status.to_status(status))


class Server:
    """The service on a loopback port, which `restart` takes again."""

    def __init__(self) -> None:
        self.service = Service()
        self.port = 0
        self.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        add_MemoryServiceServicer_to_server(self.service, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def service(server: Server) -> Service:
    return server.service


@pytest.fixture
def memory(server: Server) -> Iterator[Memory]:
    with Memory(server.target, name="digits", reconnect=3) as memory:
        yield memory


@pytest.fixture
def taught(memory: Memory) -> Memory:
    """A memory of the classes 0, 1 and 2."""
    memory.learn_task((np.zeros((6, 1, 2, 2), np.uint8), [0, 1, 2, 0, 1, 2]), progress=False)
    return memory


@pytest.fixture
def analysed() -> Callable[..., pb.TaskAnalysis]:
    return task_analysis


@pytest.fixture
def rows_of() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return expected
