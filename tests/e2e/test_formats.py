"""Samples in the format that a learner asks for, by the SDK and over a real socket."""

from collections.abc import Iterator

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import InvalidInput, Memory


@pytest.fixture
def memory(server, taught) -> Iterator[Memory]:
    with Memory(server.target, taught) as memory:
        yield memory


def test_without_a_format_samples_are_as_with_the_formats_that_are_the_defaults(wire, taught):
    plain = wire.sample(taught, n=300, seed=4)
    named = wire.sample(taught, n=300, seed=4, format=pb.Format(dtype=pb.UINT8, layout=pb.NCHW, height=8, width=8))
    assert (plain.x, plain.headers) == (named.x, named.headers)
    assert plain.headers[0].layout == pb.NCHW


def test_the_header_says_what_is_sent(wire, taught):
    asked = pb.Format(dtype=pb.FLOAT16, layout=pb.NHWC, height=12, width=10)
    (header,) = wire.sample(taught, n=4, format=asked).headers
    spec = pb.DataSpec(shape=(12, 10, 1), dtype=pb.FLOAT16)
    assert (header.spec, header.layout, header.shared) == (spec, pb.NHWC, False)


def test_every_dtype_and_layout_shows_the_same_pictures(memory):
    x, y = memory.sample(n=700, seed=6, dtype="float32")
    half = np.float32(127.5)
    for dtype in ("uint8", "float16"):
        for layout in ("NCHW", "NHWC"):
            other, labels = memory.sample(n=700, seed=6, dtype=dtype, layout=layout)
            assert other.dtype == dtype
            other = other if layout == "NCHW" else np.moveaxis(other, 3, 1)
            expected = x.astype(np.float16) if dtype == "float16" else np.rint(x * half + half)
            assert np.array_equal(other, expected.astype(dtype))
            assert np.array_equal(labels, y)


@pytest.mark.parametrize("size", [(8, 16), (20, 11), (64, 64)])
def test_every_size_shows_the_same_pictures_however_it_is_made(memory, size):
    """Small ones are resized with their tile, large ones when they are sent."""
    floats, y = memory.sample(n=700, seed=6, dtype="float32", size=size)
    assert floats.shape == (700, 1, *size)
    pixels, labels = memory.sample(n=700, seed=6, size=size)
    assert np.array_equal(np.rint(floats * np.float32(127.5) + np.float32(127.5)), pixels)
    assert np.array_equal(labels, y)
    learned, _ = memory.sample(n=700, seed=6, dtype="float32")
    assert np.abs(floats.mean((2, 3)) - learned.mean((2, 3))).max() < 0.2


def test_a_resized_stream_is_resumed_at_any_batch_with_the_same_bytes(wire, taught):
    form = pb.Format(dtype=pb.FLOAT32, height=33, width=29)
    row = 33 * 29 * 4
    whole = wire.sample(taught, n=300, batch_size=64, seed=3, format=form)
    for start in (1, 3):
        rest = wire.sample(taught, n=300, batch_size=64, seed=3, start_at=start, format=form)
        assert rest.x == whole.x[64 * row * start :]


def test_large_images_are_cut_into_messages_of_768_kib_at_most(wire, taught):
    form = pb.Format(dtype=pb.FLOAT32, height=200, width=200)
    samples = wire.sample(taught, n=100, batch_size=100, format=form)
    assert len(samples.x) == 100 * 200 * 200 * 4
    assert max(len(chunk.x) for chunk in samples.chunks) <= 768 << 10
    assert [chunk.row for chunk in samples.chunks] == list(range(0, 100, (768 << 10) // 160_000))


def test_the_largest_image_comes_in_a_message_of_its_own(memory):
    x, _ = memory.sample(n=3, dtype="float32", size=(1024, 1024))
    assert x.shape == (3, 1, 1024, 1024)


def test_a_stream_comes_in_its_format(memory):
    with memory.stream(batch_size=50, dtype="float16", layout="NHWC", size=(16, 24), n=120) as stream:
        batches = list(stream)
    assert [(x.shape, x.dtype) for x, _ in batches] == [((n, 16, 24, 1), np.float16) for n in (50, 50, 20)]


def test_what_cannot_be_given_is_refused_in_the_words_of_the_server(memory):
    with pytest.raises(InvalidInput, match="height is 2000; name both height and width, each from 8 to 1024"):
        memory.sample(n=4, size=(2000, 8))
