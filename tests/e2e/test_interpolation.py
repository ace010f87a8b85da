"""What an Interpolate stream promises, over a real socket."""

import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import torch
from memory_api.v1 import memory_pb2 as pb
from memory_client import CannotInterpolate, InvalidInput, Memory, UnknownClass, UnknownTask

from dgm_core.manifest import DataSpec
from dgm_core.style.base import Base
from dgm_core.training.bases import design_of

IMAGE = DataSpec((1, 8, 8), "uint8")
STYLED = {"kind": "gan_memory", "options": {"base": "tiny", "seed": "1"}}
FLOATS = pb.Format(dtype=pb.FLOAT32)
QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]
THIRDS = [0.0, 1 / 3, 2 / 3, 1.0]
N = 10


@pytest.fixture(scope="module")
def styled(server, wire) -> str:
    """A memory on a tiny base: task a of the classes 0 and 1, task b of 0 and 3."""
    folder = server.data_dir / "bases"
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        design = design_of(IMAGE, "dcgan", 4, 8)
        base = Base.of("tiny", design, design.generator(IMAGE, 1), design.discriminator(IMAGE, 1), {})
    (folder / "tiny.safetensors").write_bytes(base.file)
    wire.learn("styled", "a", (0, 1), **STYLED)
    wire.learn("styled", "b", (0, 3), n=44, **STYLED)
    return "styled"


@pytest.fixture
def memory(server, styled) -> Iterator[Memory]:
    with Memory(server.target, styled) as memory:
        yield memory


def integer(label: int) -> pb.ClassLabel:
    return pb.ClassLabel(integer=label)


def blended(wire, memory: str, start: str, end: str, weights=(0.5,), n: int = N, **request):
    """Header and rows (weights, n, 64) of a whole stream."""
    asked = pb.InterpolateRequest(memory=memory, start=start, end=end, weights=weights, n=n, **request)
    header, *rest = wire.stub.Interpolate(asked, timeout=60)
    x = b"".join(message.chunk.x for message in rest)
    dtype = "uint8" if header.header.spec.dtype == pb.UINT8 else "<f4"
    return header.header, np.frombuffer(x, dtype).reshape(-1, n, 64)


def test_rows_come_weight_by_weight_under_one_header(wire, styled):
    header, x = blended(wire, styled, "a", "b", QUARTERS, seed=1)
    assert (header.revision, header.batch_size, [one.integer for one in header.classes]) == (2, N, [0])
    assert (tuple(header.spec.shape), header.spec.dtype) == ((1, 8, 8), pb.UINT8)
    assert x.shape == (5, N, 64)


def test_the_ends_are_the_tasks_own_samples_to_the_bit(wire, styled):
    for dtype in (pb.UINT8, pb.FLOAT32):
        _, x = blended(wire, styled, "a", "b", QUARTERS, seed=5, format=pb.Format(dtype=dtype))
        for weight, task in ((0, "a"), (-1, "b")):
            own = wire.sample(styled, classes=(0,), tasks=[task], n=N, seed=5, format=pb.Format(dtype=dtype))
            assert x[weight].tobytes() == own.x
    _, x = blended(wire, styled, "", "b", [1.0], seed=5, end_class=integer(3))
    assert x.tobytes() == wire.sample(styled, classes=(3,), n=N, seed=5).x


def test_an_end_is_the_tasks_own_samples_however_many_rows_are_asked_for(wire, styled):
    _, x = blended(wire, styled, "b", "a", [0.0, 0.5], n=1500, seed=2, start_class=integer(3))
    assert x[0].tobytes() == wire.sample(styled, classes=(3,), n=1500, batch_size=1500, seed=2).x


def test_every_weight_has_the_same_noise_and_moves_away_from_the_start(wire, styled):
    _, x = blended(wire, styled, "a", "b", QUARTERS, n=40, format=FLOATS)
    distances = np.abs(x - x[0]).mean((1, 2))
    assert distances[0] == 0
    assert 0 < distances[1] < distances[2] < distances[4]
    near, other = np.abs(x[1] - x[0]).mean(), np.abs(x[1] - np.roll(x[0], 1, 0)).mean()
    assert near < other  # each row is nearest to itself: it is the same picture
    _, twice = blended(wire, styled, "a", "b", [0.5, 0.5], format=FLOATS)
    assert np.array_equal(twice[0], twice[1])


def test_a_seed_makes_the_stream_a_function_of_the_request(wire, styled, server, connect):
    """Invariant I6, also while others blend and sample."""
    alone = blended(wire, styled, "a", "b", QUARTERS, n=200, seed=7)[1].tobytes()
    stop = threading.Event()

    def disturb(client):
        while not stop.is_set():
            blended(client, styled, "", "a", np.linspace(0.1, 0.9, 12), n=70)
            client.sample(styled, n=500, batch_size=37)

    others = [threading.Thread(target=disturb, args=(connect(server),)) for _ in range(2)]
    for thread in others:
        thread.start()
    try:
        together = [blended(wire, styled, "a", "b", QUARTERS, n=200, seed=7)[1].tobytes() for _ in range(3)]
    finally:
        stop.set()
        for thread in others:
            thread.join()
    assert together == [alone] * 3
    assert blended(wire, styled, "a", "b", QUARTERS, n=200, seed=8)[1].tobytes() != alone
    assert blended(wire, styled, "a", "b", QUARTERS, n=200)[1].tobytes() != alone


@pytest.mark.parametrize(("start_at", "n"), [(1, N), (3, N), (4, N), (9, N), (2, 1100)])
def test_a_broken_stream_is_resumed_at_any_weight(start_at, n, wire, styled):
    whole = blended(wire, styled, "a", "b", THIRDS, n=n, seed=3)[1]
    asked = pb.InterpolateRequest(memory=styled, start="a", end="b", weights=THIRDS, n=n, seed=3, start_at=start_at)
    chunks = [message.chunk for message in wire.stub.Interpolate(asked, timeout=60) if message.chunk.x]
    assert b"".join(chunk.x for chunk in chunks) == whole[start_at:].tobytes()
    assert not chunks or chunks[0].row == start_at * n


def test_groups_and_layers_say_what_is_blended(wire, styled):
    known = wire.stub.GetMemory(pb.GetMemoryRequest(name=styled), timeout=30).analysis[0]
    layers = [usage.layer for usage in known.layers]
    assert len(layers) > 1

    def one(**request):
        return blended(wire, styled, "", "a", [1.0], seed=4, format=FLOATS, **request)[1].tobytes()

    base = blended(wire, styled, "", "a", [0.0], seed=4, format=FLOATS)[1].tobytes()
    groups = ["scale", "shift", "bias"]
    assert one(groups=groups) == one(groups=groups[::-1] * 2) == one(layers=layers) == one()
    seen = {base, one(), *(one(groups=[group]) for group in groups), *(one(layers=[layer]) for layer in layers)}
    assert len(seen) == 2 + len(groups) + len(layers)


def test_a_stream_is_pinned_to_its_revision_and_ends_when_that_is_gone(wire, styled, name):
    wire.learn(name, "a", (0, 1), **STYLED)
    wire.learn(name, "b", (0, 3), **STYLED)
    asked = pb.InterpolateRequest(memory=name, start="a", end="b", weights=QUARTERS * 50, n=20, format=FLOATS)
    stream = wire.stub.Interpolate(asked, timeout=60)
    assert next(stream).header.revision == 2
    next(stream)
    wire.stub.ForgetTask(pb.ForgetTaskRequest(memory=name, task="b"), timeout=60)
    assert wire.refusal(lambda: list(stream)).reason in ("UNKNOWN_REVISION", "SUPERSEDED")  # the latter by a hair
    assert wire.refusal(lambda: blended(wire, name, "a", "b")).reason == "UNKNOWN_TASK"
    assert blended(wire, name, "", "a")[0].revision == 3


INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
REFUSED = {
    "no weight": ({"weights": []}, INVALID, "BAD_REQUEST", "weights"),
    "too many weights": ({"weights": [0.5] * 257, "n": 1}, INVALID, "BAD_REQUEST", "weights"),
    "a weight beyond the end": ({"weights": [0, 1.5]}, INVALID, "BAD_REQUEST", "weights[1]"),
    "a weight that is no number": ({"weights": [float("nan")]}, INVALID, "BAD_REQUEST", "weights[0]"),
    "no rows": ({"n": 0}, INVALID, "BAD_REQUEST", "n"),
    "too many rows of all weights": ({"n": 1001, "weights": QUARTERS}, INVALID, "BAD_REQUEST", "n"),
    "no end": ({"end": ""}, INVALID, "BAD_REQUEST", "end"),
    "a start that is no name": ({"start": "/"}, INVALID, "BAD_REQUEST", "start"),
    "a class of the base": ({"start": "", "start_class": integer(0)}, INVALID, "BAD_REQUEST", "start_class"),
    "a class that is empty": ({"end_class": pb.ClassLabel()}, INVALID, "BAD_REQUEST", "end_class"),
    "a group that there is not": ({"groups": ["scale", "scales"]}, INVALID, "BAD_REQUEST", "groups[1]"),
    "a layer that there is not": ({"layers": ["nowhere"]}, INVALID, "BAD_REQUEST", "layers"),
    "a dtype that is none": ({"format": pb.Format(dtype=9)}, INVALID, "BAD_REQUEST", "format.dtype"),
    "a weight beyond all counting": ({"start_at": 2**63}, INVALID, "BAD_REQUEST", "start_at"),
    "an unknown memory": ({"memory": "nobody"}, MISSING, "UNKNOWN_MEMORY", ""),
    "an unknown start": ({"start": "t9"}, MISSING, "UNKNOWN_TASK", ""),
    "an unknown end": ({"end": "t9"}, MISSING, "UNKNOWN_TASK", ""),
    "a class of the other task": ({"start_class": integer(3)}, MISSING, "UNKNOWN_CLASS", ""),
    "an unknown class of the end": ({"end_class": integer(9)}, MISSING, "UNKNOWN_CLASS", ""),
    "an unknown revision": ({"revision": 9}, MISSING, "UNKNOWN_REVISION", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_refused_with_its_field(case, wire, styled):
    wrong, code, reason, field = REFUSED[case]
    asked = pb.InterpolateRequest(**{"memory": styled, "start": "a", "end": "b", "weights": [0.5], "n": 4, **wrong})
    refusal = wire.refusal(lambda: list(wire.stub.Interpolate(asked, timeout=30)))
    assert (refusal.code, refusal.reason, refusal.field) == (code, reason, field)


def test_a_refusal_names_what_there_is(wire, styled):
    def message(**wrong):
        return wire.refusal(lambda: blended(wire, styled, "a", "b", **wrong)).message

    assert "'scale'" not in (text := message(groups=["x"])) and "scale, shift, bias" in text
    known = wire.stub.GetMemory(pb.GetMemoryRequest(name=styled), timeout=30).analysis[0]
    assert all(usage.layer in message(layers=["x"]) for usage in known.layers)


def test_a_memory_without_styles_or_without_tasks_has_nothing_to_blend(wire, taught, styled, name):
    for weights in ([0.5], [0.0], [1.0]):
        refusal = wire.refusal(lambda weights=weights: blended(wire, taught, "t0", "t1", weights))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CANNOT_BLEND")
        assert "gan_memory" in refusal.message
    spec = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)
    wire.stub.CreateMemory(pb.CreateMemoryRequest(name=name, spec=spec, **STYLED), timeout=30)
    assert wire.refusal(lambda: blended(wire, name, "a", "b")).reason == "EMPTY_MEMORY"


# Through the client


def test_the_client_gives_an_array_of_weights_and_rows(memory):
    many, one = memory.interpolate("a", "b", QUARTERS, N, seed=5), memory.interpolate("a", "b", n=N, seed=5)
    assert (many.shape, one.shape, many.dtype) == ((5, N, 1, 8, 8), (N, 1, 8, 8), np.uint8)
    assert np.array_equal(many[2], one)
    own, _ = memory.sample(classes=0, n=N, tasks="a", seed=5)
    assert np.array_equal(many[0], own)
    floats = memory.interpolate(None, "b", [1.0], N, seed=5, classes=(None, 3), dtype="float32")
    assert np.array_equal(floats[0], memory.sample(classes=3, n=N, seed=5, dtype="float32")[0])
    assert not np.array_equal(memory.interpolate("", "b", n=N), memory.interpolate("", "b", n=N))
    layer = memory.describe().analysis[0].layers[0].layer
    assert not np.array_equal(memory.interpolate("a", "b", 1, N, seed=5, layers=layer, groups="scale"), many[4])


def test_the_client_raises_errors_of_its_own(memory, server, taught):
    with pytest.raises(InvalidInput, match="weights"):
        memory.interpolate("a", "b", 1.5)
    with pytest.raises(UnknownTask, match="'a', 'b'"):
        memory.interpolate("a", "c")
    with pytest.raises(UnknownClass):
        memory.interpolate("a", "b", classes=(3, 3))
    with Memory(server.target, taught) as other, pytest.raises(CannotInterpolate, match="gan_memory"):
        other.interpolate("t0", "t1")
