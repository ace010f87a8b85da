"""Whatever is asked wrongly gets its status, its reason and its field, and leaves the server as it was."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory, MessageTooLarge, TaskRejected
from memory_client._lesson import Resending
from memory_client.aio import Memory as AsyncMemory

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
EXISTS, PRECONDITION = grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture
def unchanged(server, wire, taught) -> Iterator[None]:
    """Memories, tasks and every byte of the data directory are what they were."""

    def state() -> list[Any]:
        files = [path for path in sorted(server.data_dir.rglob("*")) if path.is_file() and path.suffix != ".sqlite-shm"]
        return [*wire.everything(), *((path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)]

    before = state()
    yield
    assert state() == before


Uploads = Callable[[Any, np.ndarray, np.ndarray], Any]


def upload(wire, x, y, *, memory="fresh", task="bad", classes=(0, 1), **header):
    return [wire.header(memory, task, **header), wire.chunk(x, y, classes), wire.finish(x, y, classes)]


def floats(x):
    return (x / 127.5 - 1).astype(np.float32)


def with_value(x, value):
    changed = floats(x)
    changed[3, 0, 2, 2] = value
    return changed


BAD_UPLOADS: dict[str, tuple[str, Uploads]] = {
    "a dtype that is none": ("header.spec.dtype", lambda w, x, y: upload(w, x, y, dtype=0)),
    "a dtype that is for samples": ("header.spec.dtype", lambda w, x, y: upload(w, x, y, dtype=pb.FLOAT16)),
    "a vector of uint8": ("header.spec.dtype", lambda w, x, y: upload(w, x, y, shape=(64,), dtype=pb.UINT8)),
    "two channels": ("header.spec.shape", lambda w, x, y: upload(w, x, y, shape=(2, 8, 8))),
    "a side of seven pixels": ("header.spec.shape", lambda w, x, y: upload(w, x, y, shape=(1, 7, 8))),
    "a side of 257 pixels": ("header.spec.shape", lambda w, x, y: upload(w, x, y, shape=(1, 8, 257))),
    "two dimensions": ("header.spec.shape", lambda w, x, y: upload(w, x, y, shape=(8, 8), dtype=pb.UINT8)),
    "no dimensions": ("header.spec.shape", lambda w, x, y: upload(w, x, y, shape=(), dtype=pb.UINT8)),
    "another shape than the memory's": (
        "header.spec.shape",
        lambda w, x, y: upload(w, x, y, memory="taught", shape=(1, 8, 16)),
    ),
    "another channel count than the memory's": (
        "header.spec.shape",
        lambda w, x, y: upload(w, x, y, memory="taught", shape=(3, 8, 8)),
    ),
    "a vector for a memory of images": (
        "header.spec.shape",
        lambda w, x, y: upload(w, x, y, memory="taught", shape=(64,)),
    ),
    "an unknown kind": ("header.kind", lambda w, x, y: upload(w, x, y, kind="telepathy")),
    "an unknown option": ("header.options.colour", lambda w, x, y: upload(w, x, y, options={"colour": "red"})),
    "a malformed option": ("header.options.width", lambda w, x, y: upload(w, x, y, options={"width": "wide"})),
    "an option in superscript": ("header.options.width", lambda w, x, y: upload(w, x, y, options={"width": "²"})),
    "an option without an end": ("header.options.seed", lambda w, x, y: upload(w, x, y, options={"seed": "9" * 5000})),
    "a memory without a name": ("header.memory", lambda w, x, y: upload(w, x, y, memory="")),
    "a task whose name is a path": ("header.task", lambda w, x, y: upload(w, x, y, task="../t0")),
    "more classes than anybody has": ("header.classes", lambda w, x, y: declare(w, x, y, range(65_537))),
    "a class named twice": ("header.classes", lambda w, x, y: declare(w, x, y, (0, 1, 0))),
    "classes of two types": ("header.classes", lambda w, x, y: declare(w, x, y, (0, "one"))),
    "no rows announced": ("header.count", lambda w, x, y: upload(w, x, y, count=0)),
    "no steps": ("header.steps", lambda w, x, y: upload(w, x, y, steps=0)),
    "no time": ("header.seconds", lambda w, x, y: upload(w, x, y, seconds=-1.0)),
    "endless time": ("header.seconds", lambda w, x, y: upload(w, x, y, seconds=float("nan"))),
    "a quality beyond 1": ("header.min_quality", lambda w, x, y: upload(w, x, y, min_quality=1.5)),
    "NaN": ("chunk.x", lambda w, x, y: upload(w, with_value(x, np.nan), y, dtype=pb.FLOAT32)),
    "infinity": ("chunk.x", lambda w, x, y: upload(w, with_value(x, np.inf), y, dtype=pb.FLOAT32)),
    "a pixel beyond 1": ("chunk.x", lambda w, x, y: upload(w, with_value(x, 1.01), y, dtype=pb.FLOAT32)),
    "floats from 0 to 255": ("chunk.x", lambda w, x, y: upload(w, x.astype(np.float32), y, dtype=pb.FLOAT32)),
    "a vector with NaN": (
        "chunk.x",
        lambda w, x, y: upload(w, np.full((40, 5), np.nan, np.float32), y, shape=(5,)),
    ),
    "half a row": ("chunk.x", lambda w, x, y: upload(w, x.reshape(-1)[:-5], y)),
    "float rows where uint8 was said": ("chunk.y", lambda w, x, y: upload(w, floats(x), y)),
    "fewer labels than rows": ("chunk.y", lambda w, x, y: upload(w, x, y[:-1])),
    "labels beyond the classes": ("chunk.y", lambda w, x, y: [w.header("fresh", "bad"), w.chunk(x, y + 1, (0, 1))]),
    "negative labels": ("chunk.y", lambda w, x, y: [w.header("fresh", "bad"), w.chunk(x, y - 1, (0, 1))]),
    "labels without classes": ("chunk.y", lambda w, x, y: [w.header("fresh", "bad"), w.chunk(x, y)]),
    "new classes of two types": (
        "chunk.new_classes",
        lambda w, x, y: [w.header("fresh", "bad"), w.chunk(x, y, (0, "one"))],
    ),
    "a class announced again": (
        "chunk.new_classes",
        lambda w, x, y: [w.header("fresh", "bad"), w.chunk(x, y, (0, 1)), w.chunk(x, y, (1,))],
    ),
    "an empty class name": (
        "chunk.new_classes[0]",
        lambda w, x, y: [w.header("fresh", "bad"), w.chunk(x, y, ("", "b"))],
    ),
    "texts where the memory has integers": (
        "chunk.new_classes",
        lambda w, x, y: [w.header("taught", "bad"), w.chunk(x, y, ("cat", "dog"))],
    ),
    "a class that was not declared": ("chunk.new_classes", lambda w, x, y: declare(w, x, y, (0, 2), sent=(0, 1))),
    "a declared class without rows": ("header.classes", lambda w, x, y: declare(w, x, y, (0, 1, 2), sent=(0, 1))),
    "an announced class without rows": ("chunk.new_classes", lambda w, x, y: upload(w, x, y, classes=(0, 1, 2))),
    "no header": ("header", lambda w, x, y: [w.chunk(x, y, (0, 1)), w.finish(x, y, (0, 1))]),
    "nothing at all": ("header", lambda w, x, y: []),
    "a header alone": ("finish", lambda w, x, y: [w.header("fresh", "bad")]),
    "no finish": ("finish", lambda w, x, y: upload(w, x, y)[:-1]),
    "two headers": ("header", lambda w, x, y: [w.header("fresh", "bad"), w.header("fresh", "bad")]),
    "an empty message": ("message", lambda w, x, y: [w.header("fresh", "bad"), pb.LearnTaskRequest()]),
    "data after the finish": ("finish", lambda w, x, y: [*upload(w, x, y), w.chunk(x, y)]),
    "a header and a finish": (
        "finish.count",
        lambda w, x, y: [w.header("fresh", "bad"), w.finish(x[:0], y[:0], (0, 1))],
    ),
    "fewer rows than the finish says": (
        "finish.count",
        lambda w, x, y: [*upload(w, x, y)[:-1], w.finish(x, y, (0, 1), count=41)],
    ),
    "fewer rows than the header says": ("header.count", lambda w, x, y: upload(w, x, y, count=41)),
    "more rows than the header says": ("header.count", lambda w, x, y: upload(w, x, y, count=39)),
    "another digest": ("finish.digest", lambda w, x, y: [*upload(w, x, y)[:-1], w.finish(255 - x, y, (0, 1))]),
    "no digest": ("finish.digest", lambda w, x, y: [*upload(w, x, y)[:-1], w.finish(x, y, (0, 1), digest=b"")]),
}


def declare(wire, x, y, declared, sent=(0, 1)):
    classes = [pb.ClassLabel(integer=one) if isinstance(one, int) else pb.ClassLabel(text=one) for one in declared]
    return [wire.header("fresh", "bad", classes=classes), wire.chunk(x, y, sent), wire.finish(x, y, sent)]


@pytest.mark.parametrize("case", BAD_UPLOADS)
def test_a_bad_upload_is_refused_and_leaves_no_trace(case, wire, unchanged, make_images):
    field, messages = BAD_UPLOADS[case]
    refusal = wire.refusal(lambda: wire.stub.LearnTask(iter(messages(wire, *make_images())), timeout=30))
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, "BAD_REQUEST", field)


def test_a_refusal_repeats_no_value_of_the_data(wire, unchanged, make_images):
    x, y = make_images()
    secret = 1234.5
    refusal = wire.refusal(
        lambda: wire.stub.LearnTask(iter(upload(wire, with_value(x, secret), y, dtype=pb.FLOAT32)), timeout=30)
    )
    assert "row 3" in refusal.message
    assert str(secret) not in refusal.message


def sample(wire, **request):
    return list(wire.stub.Sample(pb.SampleRequest(**request), timeout=30))


def sampled(wire, **form):
    return sample(wire, memory="taught", n=8, format=pb.Format(**form))


def integers(*labels):
    return [pb.ClassLabel(integer=label) for label in labels]


CALLS: dict[str, tuple[grpc.StatusCode, str, str, Callable[[Any], Any]]] = {
    "no rows": (INVALID, "BAD_REQUEST", "n", lambda w: sample(w, memory="taught", n=0)),
    "less than no rows": (INVALID, "BAD_REQUEST", "n", lambda w: sample(w, memory="taught", n=-1)),
    "too many rows": (INVALID, "BAD_REQUEST", "n", lambda w: sample(w, memory="taught", n=5001)),
    "too large a batch": (
        INVALID,
        "BAD_REQUEST",
        "batch_size",
        lambda w: sample(w, memory="taught", n=8, batch_size=65537),
    ),
    "a batch beyond all counting": (
        INVALID,
        "BAD_REQUEST",
        "start_at",
        lambda w: sample(w, memory="taught", start_at=2**63),
    ),
    "too long a stride": (INVALID, "BAD_REQUEST", "stride", lambda w: sample(w, memory="taught", n=8, stride=65537)),
    "a revision beyond all counting": (
        INVALID,
        "BAD_REQUEST",
        "revision",
        lambda w: sample(w, memory="taught", revision=2**64 - 1),
    ),
    "a dtype that is none": (INVALID, "BAD_REQUEST", "format.dtype", lambda w: sampled(w, dtype=9)),
    "a precision that is none": (
        INVALID,
        "BAD_REQUEST",
        "precision",
        lambda w: sample(w, memory="taught", n=8, precision=3),
    ),
    "a layout that is none": (INVALID, "BAD_REQUEST", "format.layout", lambda w: sampled(w, layout=3)),
    "a height alone": (INVALID, "BAD_REQUEST", "format.width", lambda w: sampled(w, height=8)),
    "a width alone": (INVALID, "BAD_REQUEST", "format.height", lambda w: sampled(w, width=8)),
    "too small an image": (INVALID, "BAD_REQUEST", "format.width", lambda w: sampled(w, height=8, width=7)),
    "too high an image": (INVALID, "BAD_REQUEST", "format.height", lambda w: sampled(w, height=1025, width=8)),
    "too wide an image": (INVALID, "BAD_REQUEST", "format.width", lambda w: sampled(w, height=1024, width=2**32 - 1)),
    "a class asked for twice": (
        INVALID,
        "BAD_REQUEST",
        "classes",
        lambda w: sample(w, memory="taught", n=8, classes=integers(0, 0)),
    ),
    "an unknown class": (
        MISSING,
        "UNKNOWN_CLASS",
        "",
        lambda w: sample(w, memory="taught", n=8, classes=integers(0, 77)),
    ),
    "a class that the task does not have": (
        MISSING,
        "UNKNOWN_CLASS",
        "",
        lambda w: sample(w, memory="taught", n=8, tasks=["t0"], classes=integers(2)),
    ),
    "an unknown task": (MISSING, "UNKNOWN_TASK", "", lambda w: sample(w, memory="taught", n=8, tasks=["t9"])),
    "an unknown revision": (MISSING, "UNKNOWN_REVISION", "", lambda w: sample(w, memory="taught", n=8, revision=9)),
    "an unknown memory": (MISSING, "UNKNOWN_MEMORY", "", lambda w: sample(w, memory="nobody", n=8)),
    "an unknown memory to describe": (
        MISSING,
        "UNKNOWN_MEMORY",
        "",
        lambda w: w.stub.GetMemory(pb.GetMemoryRequest(name="nobody"), timeout=30),
    ),
    "an unknown memory to delete": (
        MISSING,
        "UNKNOWN_MEMORY",
        "",
        lambda w: w.stub.DeleteMemory(pb.DeleteMemoryRequest(name="nobody"), timeout=30),
    ),
    "an unknown task to look at": (
        MISSING,
        "UNKNOWN_TASK",
        "",
        lambda w: w.stub.GetTask(pb.GetTaskRequest(memory="taught", task="t9"), timeout=30),
    ),
    "an unknown task to watch": (
        MISSING,
        "UNKNOWN_TASK",
        "",
        lambda w: list(w.stub.WatchTask(pb.WatchTaskRequest(memory="taught", task="t9"), timeout=30)),
    ),
    "a learned task to cancel": (
        PRECONDITION,
        "TASK_FINISHED",
        "",
        lambda w: w.stub.CancelTask(pb.CancelTaskRequest(memory="taught", task="t0"), timeout=30),
    ),
    "rows of another shape to classify": (
        INVALID,
        "BAD_REQUEST",
        "spec.shape",
        lambda w: classify(w, np.zeros((2, 1, 8, 9), np.uint8)),
    ),
    "no rows to classify": (INVALID, "BAD_REQUEST", "x", lambda w: classify(w, np.zeros((0, 1, 8, 8), np.uint8))),
    "a memory that exists, of another shape": (
        EXISTS,
        "MEMORY_EXISTS",
        "",
        lambda w: create(w, name="taught", spec=pb.DataSpec(shape=(3, 8, 8), dtype=pb.UINT8)),
    ),
    "a memory of floating images": (
        INVALID,
        "BAD_REQUEST",
        "spec.dtype",
        lambda w: create(w, name="fresh", spec=pb.DataSpec(shape=(1, 8, 8), dtype=pb.FLOAT32)),
    ),
    "a memory of half floats": (
        INVALID,
        "BAD_REQUEST",
        "spec.dtype",
        lambda w: create(w, name="fresh", spec=pb.DataSpec(shape=(8,), dtype=pb.FLOAT16)),
    ),
    "half floats to classify": (
        INVALID,
        "BAD_REQUEST",
        "spec.dtype",
        lambda w: classify(w, np.zeros((2, 1, 8, 8)), pb.FLOAT16),
    ),
    "a memory of an unknown kind": (
        INVALID,
        "BAD_REQUEST",
        "kind",
        lambda w: create(w, name="fresh", kind="telepathy", spec=pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)),
    ),
}


def create(wire, **request):
    return wire.stub.CreateMemory(pb.CreateMemoryRequest(**request), timeout=30)


def classify(wire, x, dtype=pb.UINT8):
    spec = pb.DataSpec(shape=x.shape[1:], dtype=dtype)
    return wire.stub.Classify(pb.ClassifyRequest(memory="taught", spec=spec, x=x.tobytes()), timeout=30)


@pytest.mark.parametrize("case", CALLS)
def test_a_bad_call_is_refused_and_changes_nothing(case, wire, unchanged):
    code, reason, field, call = CALLS[case]
    refusal = wire.refusal(lambda: call(wire))
    assert (refusal.code, refusal.reason, refusal.field) == (code, reason, field)


@pytest.mark.parametrize("method", ["GetMemory", "Sample", "LearnTask"])
def test_bytes_that_are_no_message_are_a_bad_request(method, wire, unchanged):
    path = f"/memory_api.v1.MemoryService/{method}"
    calls = {
        "GetMemory": lambda: wire.channel.unary_unary(path)(b"\xff", timeout=30),
        "Sample": lambda: list(wire.channel.unary_stream(path)(b"\xff", timeout=30)),
        "LearnTask": lambda: wire.channel.stream_unary(path)(iter([b"\xff"]), timeout=30),
    }
    refusal = wire.refusal(calls[method])
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, "BAD_REQUEST", "message")


def test_a_chunk_without_rows_changes_nothing(wire, name, make_images):
    x, y = make_images()
    messages = [wire.header(name, "t0"), wire.chunk(x[:0], y[:0]), wire.chunk(x, y, (0, 1)), wire.chunk(x[:0], y[:0])]
    assert wire.stub.LearnTask(iter([*messages, wire.finish(x, y, (0, 1))]), timeout=30).state == pb.QUEUED
    wire.stub.CancelTask(pb.CancelTaskRequest(memory=name, task="t0"), timeout=30)
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), timeout=30)


@pytest.mark.parametrize(("case", "known"), [("an unknown class", "0, 1, 2, 3"), ("an unknown task", "'t0', 't1'")])
def test_a_refusal_names_what_is_known(case, known, wire, unchanged):
    assert known in wire.refusal(lambda: CALLS[case][-1](wire)).message


def test_a_task_name_with_other_data_is_refused(wire, unchanged):
    refusal = wire.refusal(lambda: wire.submit("taught", "t0", (0, 1), n=42))
    assert (refusal.code, refusal.reason) == (EXISTS, "TASK_EXISTS")


def test_a_task_sent_again_is_the_same_task(wire, unchanged):
    again = wire.submit("taught", "t0", (0, 1))
    assert (again.state, again.revision) == (pb.LEARNED, 1)


@pytest.mark.parametrize("expectation", [{"options": {"width": "5"}}, {"options": {"seed": "1"}}])
def test_other_options_than_the_memory_has_are_refused(expectation, wire, unchanged):
    refusal = wire.refusal(lambda: wire.submit("taught", "t2", **expectation))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "MEMORY_MISMATCH")


def test_options_that_are_not_named_expect_nothing(wire, unchanged):
    assert wire.submit("taught", "t0", (0, 1), options={}).state == pb.LEARNED


def test_a_memory_created_again_in_the_same_way_is_the_memory_that_is_there(wire, unchanged):
    spec = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)
    assert create(wire, name="taught", options={"width": "4", "noise": "8"}, spec=spec).tasks == 2


def test_an_empty_memory_has_nothing_to_sample_or_classify(wire, name, make_images):
    create(wire, name=name, spec=pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8))
    assert wire.refusal(lambda: sample(wire, memory=name, n=8)).reason == "EMPTY_MEMORY"
    asked = pb.ClassifyRequest(memory=name, spec=pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8), x=bytes(64))
    assert wire.refusal(lambda: wire.stub.Classify(asked, timeout=30)).reason == "EMPTY_MEMORY"
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), timeout=30)


def test_a_message_larger_than_the_limit_is_refused(wire, unchanged):
    x, y = np.zeros((70_000, 1, 8, 8), np.uint8), np.zeros(70_000, np.int32)
    with pytest.raises(grpc.RpcError) as caught:
        wire.stub.LearnTask(iter(upload(wire, x, y)), timeout=30)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_sdk_does_not_send_again_what_is_larger_than_a_message_may_be(new_server, monkeypatch):
    server = new_server(max_message_bytes=64 << 10).start()

    def sends_again(_, error):
        raise AssertionError("it is sent again") from error

    monkeypatch.setattr(Resending, "next_pause", sends_again)
    data = np.random.default_rng(0).integers(0, 256, (2000, 1, 8, 8), np.uint8), np.arange(2000) % 2
    said = r"larger than max \(\d+ vs\. 65536\)\. Send smaller rows.*--max-message-bytes"
    with Memory(server.target, "m", kind="dgmw") as memory, pytest.raises(TaskRejected, match=said):
        memory.learn_task(data, progress=False)
    async with AsyncMemory(server.target, "m", kind="dgmw") as memory:
        with pytest.raises(TaskRejected, match=said):
            await memory.learn_task(data, progress=False)
        with pytest.raises(MessageTooLarge, match=said):
            await memory.classify(data[0])


def test_a_task_beyond_the_whole_budget_is_refused_for_good_and_one_beyond_the_rest_for_now(new_server, connect):
    server = new_server(ingest_budget_bytes=4000).start()
    wire = connect(server)
    refusal = wire.refusal(lambda: wire.submit("m", "large", n=80))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TASK_TOO_LARGE")
    assert refusal.retry_after is None
    wire.submit("m", "first", n=40, steps=100_000)
    refusal = wire.refusal(lambda: wire.submit("m", "second", n=42))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_BUSY")
    assert refusal.retry_after is not None and refusal.retry_after >= 1
    wire.stub.CancelTask(pb.CancelTaskRequest(memory="m", task="first"), timeout=30)
    assert wire.submit("m", "second", n=42).state == pb.QUEUED
