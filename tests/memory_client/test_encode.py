"""The wire forms, checked by reading them back as memory.proto says."""

import hashlib
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_api.v1 import memory_pb2 as pb
from memory_client import InvalidInput, _decode
from memory_client._encode import (
    TaskEncoder,
    class_labels,
    names,
    options_text,
    plain_label,
    sample_format,
    sample_precision,
    within,
)

INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
LABELS = st.lists(INTEGERS, min_size=1, max_size=40) | st.lists(TEXTS, min_size=1, max_size=40)


@given(labels=LABELS, cuts=st.lists(st.integers(1, 10), max_size=10))
def test_chunks_read_back_to_the_same_labels_however_they_are_cut(labels, cuts):
    x = np.arange(len(labels) * 3, dtype=np.float32).reshape(-1, 3)
    y = np.array(labels)
    bounds = sorted({0, len(labels), *(min(len(labels), sum(cuts[:i])) for i in range(len(cuts)))})
    encoder = TaskEncoder()

    chunks = [encoder.chunk(x[a:b], y[a:b]).chunk for a, b in pairwise(bounds)]

    table, read = [], []
    for chunk in chunks:
        table += _decode.labels(chunk.new_classes)
        read += [table[i] for (i,) in struct.iter_unpack("<i", chunk.y)]
    assert read == labels
    assert table == list(dict.fromkeys(labels))
    assert b"".join(chunk.x for chunk in chunks) == x.tobytes()
    finish = encoder.finish().finish
    assert finish.count == len(labels)
    assert finish.digest == digest(x.tobytes(), labels)


def digest(x: bytes, labels: list) -> bytes:
    coded = b"".join(
        b"i" + label.to_bytes(8, "little", signed=True)
        if isinstance(label, int)
        else b"s" + len(label.encode()).to_bytes(4, "little") + label.encode()
        for label in labels
    )
    return hashlib.sha256(hashlib.sha256(x).digest() + hashlib.sha256(coded).digest()).digest()


@given(LABELS)
def test_a_selection_of_classes_reads_back(labels):
    assert _decode.labels(class_labels(labels)) == tuple(labels)
    assert _decode.labels(class_labels(np.array(labels))) == tuple(labels)


def test_a_text_is_one_class_and_not_its_letters():
    assert _decode.labels(class_labels("cat")) == _decode.labels(class_labels(np.str_("cat"))) == ("cat",)
    assert names("t10", "tasks") == ["t10"]
    assert names(None, "tasks") == class_labels(None) == []


@pytest.mark.parametrize("chosen", [b"ab", bytearray(b"ab"), np.array(3), np.array("a")])
def test_what_is_no_selection_is_refused_by_name(chosen):
    for select in (class_labels, names):
        with pytest.raises(InvalidInput, match="tasks is"):
            select(chosen, "tasks")


@pytest.mark.parametrize("label", [True, 1.5, None, b"a", 2**63, np.bool_(True)])
def test_what_is_no_class_is_refused(label):
    with pytest.raises(InvalidInput, match="class"):
        plain_label(label)


def test_numpy_scalars_are_labels():
    assert plain_label(np.int8(-3)) == -3
    assert type(plain_label(np.str_("a"))) is str


def test_options_are_texts():
    assert options_text({"seed": 3, "rate": 0.5, "grow": True, "name": "x"}) == {
        "seed": "3",
        "rate": "0.5",
        "grow": "true",
        "name": "x",
    }


def test_dtypes_are_named_as_numpy_names_them():
    assert sample_format("uint8", None, None) == sample_format(np.uint8, None, None) == pb.Format(dtype=pb.UINT8)
    assert sample_format(np.dtype("float32"), None, None) == pb.Format(dtype=pb.FLOAT32)
    assert sample_format("float16", None, None) == pb.Format(dtype=pb.FLOAT16)
    for wrong in ("float64", "no dtype", 3):
        with pytest.raises(InvalidInput, match="'uint8', 'float16' or 'float32'"):
            sample_format(wrong, None, None)


def test_a_format_that_is_not_named_is_left_to_the_server():
    assert sample_format(None, None, None) == pb.Format()
    assert sample_format(None, "NHWC", (12, np.int64(9))) == pb.Format(layout=pb.NHWC, height=12, width=9)


@pytest.mark.parametrize("size", [0, 32, (32,), (0, 0), (8, 0), (8, -8), (8, 2**32), (8.0, 8), "8x8", (8, 8, 8)])
def test_a_size_is_a_height_and_a_width(size):
    with pytest.raises(InvalidInput, match="size is"):
        sample_format(None, None, size)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (0, "rows is 0: it must be at least 1"),
        (9, "rows is 9: it must be at most 8"),
        (6.5, "rows is 6.5: pass an int"),
    ],
)
def test_a_number_is_refused_by_its_name_and_the_bound_that_it_breaks(number, says):
    with pytest.raises(InvalidInput, match=says):
        within(number, range(1, 9), "rows")


def test_a_precision_is_named():
    assert (sample_precision("full"), sample_precision("reduced")) == (pb.FULL, pb.REDUCED)
    for other in ("REDUCED", "bfloat16", None, 1):
        with pytest.raises(InvalidInput, match="pass 'full' or 'reduced'"):
            sample_precision(other)


@pytest.mark.parametrize("layout", ["nchw", "CHW", 1])
def test_a_layout_is_named(layout):
    with pytest.raises(InvalidInput, match="'NCHW' or 'NHWC'"):
        sample_format(None, layout, None)
