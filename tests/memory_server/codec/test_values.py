import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from memory_api.v1 import memory_pb2 as pb

from dgm_core.manifest import DataSpec
from memory_server.codec import values
from memory_server.errors import BadRequest

labels = st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)


@given(label=labels)
def test_a_label_survives_the_wire(label):
    sent = pb.ClassLabel.FromString(values.label_message(label).SerializeToString())
    assert values.label(sent, "classes[0]") == label


@pytest.mark.parametrize("name", ["a", "t0", "MNIST-2.1_b", "0" * 100])
def test_a_name_is_taken_as_it_is(name):
    assert values.name(name, "memory") == name


@pytest.mark.parametrize("name", ["", "../a", "a b", ".hidden", "-rf", "ä", "a\n", "a/b", "0" * 101])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(BadRequest, match="memory: "):
        values.name(name, "memory")


@pytest.mark.parametrize("text", ["", "x" * 201])
def test_a_text_label_has_1_to_200_characters(text):
    with pytest.raises(BadRequest):
        values.label(pb.ClassLabel(text=text), "classes[0]")


def test_a_label_that_is_neither_is_refused():
    with pytest.raises(BadRequest):
        values.label(pb.ClassLabel(), "classes[0]")


@given(pixels=arrays.arrays(np.uint8, (3, 1, 8, 8)))
def test_pixels_sent_as_floats_arrive_as_the_pixels_they_were(pixels):
    incoming = values.Incoming(DataSpec((1, 8, 8), "uint8"), "float32")
    sent = (pixels / np.float32(127.5) - np.float32(1)).astype(np.float32)
    assert np.array_equal(incoming.rows(sent.tobytes(), "chunk.x"), pixels)


@given(vectors=arrays.arrays(np.float32, (4, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_vectors_arrive_as_they_were_sent(vectors):
    incoming = values.Incoming(DataSpec((3,), "float32"), "float32")
    assert incoming.rows(vectors.tobytes(), "chunk.x").tobytes() == vectors.tobytes()


@given(value=st.floats(width=32).filter(lambda value: not -1 <= value <= 1))
def test_a_float_that_is_no_pixel_is_refused_with_its_row_and_without_its_value(value):
    x = np.zeros((3, 1, 8, 8), np.float32)
    x[2, 0, 1, 1] = value
    with pytest.raises(BadRequest) as caught:
        values.Incoming(DataSpec((1, 8, 8), "uint8"), "float32").rows(x.tobytes(), "chunk.x")
    found = "NaN" if np.isnan(value) else "an infinite value" if np.isinf(value) else "a value out of range"
    fix = "pixels / 127.5 - 1" if np.isfinite(value) else "drop or mend such rows"
    assert str(caught.value).startswith(f"chunk.x: row 2 holds {found}; ") and str(caught.value).endswith(fix)


@given(extra=st.integers(1, 63))
def test_a_part_of_a_row_is_refused(extra):
    with pytest.raises(BadRequest, match="whole rows"):
        values.Incoming(DataSpec((1, 8, 8), "uint8"), "uint8").rows(bytes(64 + extra), "chunk.x")
