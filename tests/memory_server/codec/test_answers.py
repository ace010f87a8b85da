"""What is sent of a stream of samples: the messages of protobuf, with one copy of x."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_api.v1 import memory_pb2 as pb

from memory_server.codec import answers
from memory_server.sampling.formats import Form
from memory_server.sampling.ring import Placed
from memory_server.sampling.stream import Opening, Rows

ROW = (3, 2, 2)


class Ring:
    """One that has room for everything."""

    def put(self, parts):
        return Placed(7, sum(part.nbytes for part in parts))


@given(row=st.integers(0, 1 << 62), parts=st.lists(st.integers(1, 400), max_size=3), shared=st.booleans())
def test_what_is_written_is_what_protobuf_reads(row, parts, shared):
    x = tuple(np.random.default_rng(row).integers(0, 256, (rows, *ROW), np.uint8) for rows in parts)
    rows = Rows(row, x, bytes(4 * sum(parts)))
    made = answers._sample(rows, Ring() if shared else None)
    content = b"".join(part.tobytes() for part in x)
    chunk = pb.SampleChunk(row=row, y=rows.y)
    if shared:
        chunk.shared.position, chunk.shared.length = 7, len(content)
    else:
        chunk.x = content
    assert pb.SampleResponse.FromString(made.written()) == pb.SampleResponse(chunk=chunk)
    assert (made.rows, made.nbytes) == (sum(parts), len(content))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 1 << 21, (1 << 32) + 5])
def test_a_length_is_written_as_protobuf_writes_it(length):
    assert b"\x08" + answers._varint(length) == pb.SampleChunk(row=length).SerializeToString() or length == 0
    assert pb.SampleChunk.FromString(b"\x08" + answers._varint(length)).row == length


def test_an_opening_is_a_message_without_rows():
    made = answers._sample(Opening(3, Form(ROW, "uint8", "NCHW"), (4, 5), 16), None)
    header = pb.SampleResponse.FromString(made.written()).header
    assert (header.revision, list(header.spec.shape), header.batch_size) == (3, list(ROW), 16)
    assert (made.rows, made.nbytes) == (0, 0)


def test_x_is_copied_once():
    x = np.zeros((1000, *ROW, 16), np.uint8)
    rows = Rows(0, (x[:500], x[500:]), bytes(4000))
    tracemalloc.start()
    try:
        written = answers._sample(rows, None).written()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(written) > x.nbytes
    assert most < 1.2 * x.nbytes
