import asyncio
import io
import json
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_server.learning.frames import BrokenFrame, Frame, encode, read, read_async

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
frames = st.builds(
    Frame, st.text(max_size=9), st.dictionaries(st.text(), json_values, max_size=3), st.lists(st.binary()).map(tuple)
)


async def both(raw: bytes) -> list[Frame]:
    """All frames of a byte string, read by both readers, which must agree."""
    stream, found = io.BytesIO(raw), []
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    while (frame := read(stream)) is not None:
        assert await read_async(reader) == frame
        found.append(frame)
    assert await read_async(reader) is None
    return found


@given(sent=st.lists(frames, max_size=3))
def test_frames_come_out_as_they_went_in(sent):
    raw = b"".join(piece for frame in sent for piece in encode(frame))
    assert asyncio.run(both(raw)) == sent


@given(frame=frames, data=st.data())
def test_a_stream_that_ends_inside_a_frame_is_broken(frame, data):
    whole = b"".join(encode(frame))
    part = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(BrokenFrame):
        read(io.BytesIO(part))

    async def read_part() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(part)
        reader.feed_eof()
        await read_async(reader)

    with pytest.raises(BrokenFrame):
        asyncio.run(read_part())


@pytest.mark.parametrize("head", [b"no json", b"[]", json.dumps({"kind": "x"}).encode()])
def test_a_head_that_is_none_is_broken(head):
    with pytest.raises(BrokenFrame, match="no head"):
        read(io.BytesIO(struct.pack("<I", len(head)) + head))


def test_an_absurd_length_is_refused_before_anything_is_allocated():
    with pytest.raises(BrokenFrame, match="longer"):
        read(io.BytesIO(b"\xff\xff\xff\xff"))


def test_the_worker_can_notice_a_dead_server_before_it_loads_what_takes_long():
    load = "import sys; before = set(sys.modules); import memory_server.learning.worker"
    look = "print({'torch', 'asyncio', 'pathlib'} & set(sys.modules) - before)"
    assert subprocess.check_output([sys.executable, "-c", f"{load}; {look}"]) == b"set()\n"
