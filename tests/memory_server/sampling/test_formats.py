import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.manifest import DataSpec
from memory_server.errors import BadRequest
from memory_server.sampling.formats import Format
from memory_server.sampling.plan import segment_rows

GREY, COLOUR, VECTOR = DataSpec((1, 8, 8), "uint8"), DataSpec((3, 12, 9), "uint8"), DataSpec((5,), "float32")

sizes = st.tuples(st.integers(8, 40), st.integers(8, 40))
dtypes = st.sampled_from(["uint8", "float16", "float32"])
layouts = st.sampled_from(["NCHW", "NHWC"])


def generated(spec: DataSpec, rows: int = 7) -> torch.Tensor:
    return torch.rand((rows, *spec.shape), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_by_itself_a_memory_gives_images_as_pixels_and_vectors_as_they_are():
    x = torch.tensor([-1.5, -1.0, -0.001, 0.0, 0.001, 1.0, 1.5, 0.5]).repeat(8).reshape(1, 1, 8, 8)
    assert Format().of(GREY).of(x)[0, 0, 0].tolist() == [0, 0, 127, 128, 128, 255, 255, 191]
    vectors = generated(VECTOR) * 1e6
    assert Format().of(VECTOR).of(vectors) is vectors


@given(dtype=dtypes, layout=layouts, size=sizes | st.none())
def test_shape_and_bytes_are_those_of_what_is_made(dtype, layout, size):
    form = Format(dtype, layout, size).of(COLOUR)
    made = form.of(generated(COLOUR)).numpy()
    assert (made.shape[1:], made.dtype.name, made[0].nbytes) == (form.shape, form.dtype, form.nbytes)


@given(dtype=dtypes, size=sizes | st.none())
def test_a_layout_moves_the_channels_and_nothing_else(dtype, size):
    first, last = (Format(dtype, layout, size).of(COLOUR).of(generated(COLOUR)) for layout in ("NCHW", "NHWC"))
    assert torch.equal(first, last.permute(0, 3, 1, 2))


@given(layout=layouts, size=sizes | st.none())
def test_other_dtypes_are_the_floats_rounded(layout, size):
    floats, halves, pixels = (
        Format(dtype, layout, size).of(COLOUR).of(generated(COLOUR)) for dtype in ("float32", "float16", "uint8")
    )
    assert torch.equal(floats.half(), halves)
    assert torch.equal((floats * 127.5 + 127.5).round().to(torch.uint8), pixels)
    assert floats.abs().max() <= 1


@given(size=sizes, cut=st.integers(1, 6))
def test_a_row_is_resized_the_same_whatever_rows_are_beside_it(size, cut):
    form, x = Format("float32", None, size).of(COLOUR), generated(COLOUR)
    assert torch.equal(form.of(x), torch.cat([form.of(x[:cut]), form.of(x[cut:])]))
    channels_last = x.to(memory_format=torch.channels_last)
    assert torch.equal(form.of(x), form.of(channels_last))


@given(size=sizes)
def test_resizing_averages_by_triangles_as_wide_as_what_a_pixel_covers(size):
    """Written apart: a triangle for each pixel, at least one learned pixel to each side of its centre."""

    def weights(learned: int, wanted: int) -> np.ndarray:
        scale = learned / wanted
        centres = scale * (np.arange(wanted) + 0.5)[:, None]
        triangles = np.clip(1 - np.abs(np.arange(learned) + 0.5 - centres) / max(scale, 1), 0, None)
        return triangles / triangles.sum(axis=1, keepdims=True)

    x = generated(COLOUR)
    vertical, horizontal = weights(12, size[0]), weights(9, size[1])
    expected = np.einsum("ih,nchw,jw->ncij", vertical, x.numpy().astype(float), horizontal)
    assert np.allclose(Format("float32", None, size).of(COLOUR).of(x), expected, atol=1e-5)


def test_the_size_that_was_learned_is_no_resizing():
    assert Format(size=(12, 9)).of(COLOUR) == Format().of(COLOUR)


def test_a_half_float_is_finite():
    x = torch.tensor([[-1e30, -70_000.0, 0.0, 65_504.0, 3e38]])
    assert Format("float16").of(VECTOR).of(x).tolist() == [[-65_504.0, -65_504.0, 0.0, 65_504.0, 65_504.0]]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (Format("uint8"), "format.dtype"),
        (Format(layout="NCHW"), "format.layout"),
        (Format(layout="NHWC"), "format.layout"),
        (Format(size=(5, 1)), "format.height"),
    ],
)
def test_a_vector_has_neither_pixels_nor_layout_nor_size(wanted, field):
    with pytest.raises(BadRequest) as caught:
        wanted.of(VECTOR)
    assert caught.value.field == field


@given(
    side=st.integers(8, 256),
    channels=st.sampled_from([1, 3]),
    dtype=dtypes,
    size=st.tuples(st.integers(8, 1024), st.integers(8, 1024)) | st.none(),
)
def test_what_waits_for_a_reader_is_bounded_for_any_format(side, channels, dtype, size):
    spec = DataSpec((channels, side, side), "uint8")
    form = Format(dtype, None, size).of(spec).generated
    assert segment_rows(spec) * form.nbytes <= 8 << 20
    assert form.generated == form


def test_only_what_is_larger_than_floats_is_resized_when_it_is_sent():
    assert Format("uint8", "NHWC", (16, 16)).of(GREY).generated.size == (16, 16)
    late = Format("uint8", "NHWC", (17, 16)).of(GREY)
    assert late.generated == Format("float32").of(GREY)
    x = generated(GREY)
    assert np.array_equal(late.of(late.generated.of(x)), late.of(x))
