"""What a Sample stream promises, over a real socket."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb

FLOATS = pb.Format(dtype=pb.FLOAT32)


def first_rows(wire, memory, rows, **request):
    """The first rows of an endless stream, as bytes."""
    stream = wire.stub.Sample(pb.SampleRequest(memory=memory, **request), timeout=60)
    x = b""
    for message in stream:
        x += message.chunk.x
        if len(x) >= rows * 64:
            break
    stream.cancel()
    return x[: rows * 64]


@pytest.mark.parametrize(("n", "batch_size"), [(1, 0), (7, 3), (130, 0), (1000, 64), (5000, 5000)])
def test_n_rows_come_balanced_over_all_classes(n, batch_size, wire, taught):
    samples = wire.sample(taught, n=n, batch_size=batch_size)
    counts = Counter(samples.y)
    assert sum(counts.values()) == n == len(samples.rows())
    assert max(counts.values()) - min(counts.get(label, 0) for label in range(4)) <= 1
    assert [chunk.row for chunk in samples.chunks] == sorted({chunk.row for chunk in samples.chunks})


def test_the_header_says_what_follows(wire, taught):
    (header,) = wire.sample(taught, classes=(3, 0), n=10, batch_size=4).headers
    assert (header.revision, header.batch_size) == (2, 4)
    assert [one.integer for one in header.classes] == [3, 0]
    assert (tuple(header.spec.shape), header.spec.dtype) == ((1, 8, 8), pb.UINT8)


def test_the_batch_size_is_128_or_n_if_that_is_smaller(wire, taught):
    assert wire.sample(taught, n=10).headers[0].batch_size == 10
    assert wire.sample(taught, n=300).headers[0].batch_size == 128


def test_tasks_restrict_what_is_sampled(wire, taught):
    assert set(wire.sample(taught, n=50, tasks=["t1"]).y) == {2, 3}


def test_float_images_are_those_of_uint8_before_rounding(wire, taught):
    pixels = wire.sample(taught, n=200, seed=5).rows()
    floats = wire.sample(taught, n=200, seed=5, format=FLOATS)
    assert floats.headers[0].spec.dtype == pb.FLOAT32
    values = floats.rows(dtype="float32")
    assert np.abs(values).max() <= 1
    half = np.float32(127.5)
    assert np.array_equal(np.rint(values * half + half).astype(np.uint8), pixels)


def test_a_seed_makes_the_stream_a_function_of_the_request(wire, taught):
    one, other = (wire.sample(taught, n=300, batch_size=50, seed=1) for _ in range(2))
    assert (one.x, one.y) == (other.x, other.y)
    assert wire.sample(taught, n=300, batch_size=50, seed=2).x != one.x


def test_no_sample_is_handed_out_twice_without_a_seed(wire, name):
    wire.learn(name, "t0", (0, 1), options={"seed": "0"})  # wide enough to tell any two noise vectors apart
    floats = [wire.sample(name, n=500, format=FLOATS).rows(dtype="float32").reshape(500, -1) for _ in range(2)]
    together = np.concatenate(floats)
    assert len(np.unique(together, axis=0)) == len(together)


def test_rows_that_are_ready_before_anybody_asks_are_handed_out_once_among_all_clients(server, wire, name, connect):
    wire.learn(name, "t0", (0, 1), options={"seed": "0"})
    clients = [connect(server) for _ in range(3)]

    def ask(client):
        answers = [client.sample(name, n=n, format=FLOATS) for n in (60, 60, 60, 20, 60, 100, 7, 60)]
        assert all(abs(Counter(answer.y)[0] - Counter(answer.y)[1]) <= 1 for answer in answers)
        return [answer.rows(dtype="float32").reshape(len(answer.y), -1) for answer in answers]

    with ThreadPoolExecutor(len(clients)) as threads:
        rows = np.concatenate([x for got in threads.map(ask, clients) for x in got])
    assert len(np.unique(rows, axis=0)) == len(rows) == 3 * 427


@pytest.mark.parametrize("start", [1, 3, 5])
def test_a_broken_stream_is_resumed_at_any_batch(start, wire, taught):
    whole = wire.sample(taught, n=300, batch_size=64, seed=3)
    rest = wire.sample(taught, n=300, batch_size=64, seed=3, start_at=start)
    assert rest.x == whole.x[64 * 64 * start :]
    assert not rest.chunks or rest.chunks[0].row == 64 * start


@pytest.mark.parametrize(("batch_size", "readers"), [(20, 3), (64, 2), (200, 4)])
def test_readers_that_share_a_stream_by_a_stride_have_every_batch_once(batch_size, readers, wire, taught):
    asked = {"n": 1000, "batch_size": batch_size, "seed": 3}
    whole = wire.sample(taught, **asked)
    shares = [wire.sample(taught, **asked, start_at=reader, stride=readers) for reader in range(readers)]
    x, y = np.empty_like(whole.rows()), np.empty(1000, int)
    for reader, share in enumerate(shares):
        mine = [row for row in range(1000) if row // batch_size % readers == reader]
        x[mine], y[mine] = share.rows(), share.y
        assert share.chunks[0].row == reader * batch_size
    assert (x.tobytes(), y.tolist()) == (whole.x, whole.y)


def test_an_endless_stream_begins_like_a_finite_one(wire, taught):
    assert first_rows(wire, taught, 256, seed=9, batch_size=64) == wire.sample(taught, n=256, seed=9, batch_size=64).x


def test_a_large_batch_is_cut_into_messages_of_a_mebibyte_at_most(wire, taught):
    samples = wire.sample(taught, n=5000, batch_size=5000, format=FLOATS)
    assert len(samples.x) == 5000 * 64 * 4
    assert max(len(chunk.x) for chunk in samples.chunks) <= 1 << 20


def test_seeded_bytes_are_the_same_whatever_others_do(server, wire, taught, connect):
    """Invariant I6."""
    alone = wire.sample(taught, n=2000, batch_size=100, seed=11)
    stop = threading.Event()

    def disturb(client, seed):
        while not stop.is_set():
            client.sample(taught, n=500, batch_size=37, seed=seed)
            client.sample(taught, n=100, batch_size=9)

    others = [threading.Thread(target=disturb, args=(connect(server), seed)) for seed in (1, 2)]
    for thread in others:
        thread.start()
    try:
        together = [wire.sample(taught, n=2000, batch_size=100, seed=11).x for _ in range(4)]
    finally:
        stop.set()
        for thread in others:
            thread.join()
    assert all(x == alone.x for x in together)


def test_an_old_revision_can_be_sampled_and_has_the_classes_of_its_time(wire, taught):
    old = wire.sample(taught, n=64, seed=4, revision=1)
    assert set(old.y) == {0, 1}
    assert old.x == wire.sample(taught, n=64, seed=4, classes=(0, 1)).x


def test_an_unseeded_stream_follows_the_newest_revision_and_a_seeded_one_does_not(wire, name):
    wire.learn(name, "t0", (0, 1))
    following = wire.stub.Sample(pb.SampleRequest(memory=name, batch_size=1024), timeout=60)
    pinned = wire.stub.Sample(pb.SampleRequest(memory=name, batch_size=1024, seed=1), timeout=60)
    assert next(following).header.revision == next(pinned).header.revision == 1
    wire.learn(name, "t1", (2, 3))
    header = next(message.header for message in following if message.WhichOneof("message") == "header")
    assert header.revision == 2
    assert [one.integer for one in header.classes] == [0, 1, 2, 3]
    assert next(following).WhichOneof("message") == "chunk"
    assert all(next(pinned).WhichOneof("message") == "chunk" for _ in range(20))
    following.cancel()
    pinned.cancel()


def test_a_vector_comes_back_as_float32(wire, name):
    x = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    y = (np.arange(60) % 2).astype(np.int32)
    x[y == 1] += 5
    wire.stub.LearnTask(wire.messages(name, "t0", x, y, ("low", "high")), timeout=60)
    assert wire.final(name, "t0").state == pb.LEARNED
    samples = wire.sample(name, n=40)
    assert samples.headers[0].spec.dtype == pb.FLOAT32
    assert samples.rows((6,), "float32").shape == (40, 6)
    assert set(samples.y) == {"low", "high"}
    assert samples.headers[0].layout == pb.LAYOUT_UNSPECIFIED
    floats, halves = (
        wire.sample(name, n=40, seed=1, format=pb.Format(dtype=dtype)).rows((6,), dtype.lower())
        for dtype in ("FLOAT32", "FLOAT16")
    )
    assert np.array_equal(floats.astype(np.float16), halves)
    for field, form in (
        ("dtype", {"dtype": pb.UINT8}),
        ("layout", {"layout": pb.NHWC}),
        ("height", {"height": 8, "width": 8}),
    ):
        refusal = wire.refusal(lambda form=form: wire.sample(name, n=8, format=pb.Format(**form)))
        assert (refusal.reason, refusal.field) == ("BAD_REQUEST", f"format.{field}")


def test_classify_labels_with_the_classes_of_the_memory(wire, taught, make_images):
    x, _ = make_images(n=300)
    spec = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)
    answer = wire.stub.Classify(pb.ClassifyRequest(memory=taught, spec=spec, x=x.tobytes()), timeout=60)
    probabilities = np.frombuffer(answer.probabilities, "<f4").reshape(300, 4)
    assert [one.integer for one in answer.classes] == [0, 1, 2, 3]
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert np.array_equal(np.frombuffer(answer.y, "<i4"), probabilities.argmax(axis=1))
    assert answer.revision == 2
