import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from dgm_core.networks.serving import Doubling, Projection, enlarging, served

seeds, widths, sides = st.integers(0, 1000), st.integers(1, 6), st.integers(1, 9)


@settings(max_examples=25, deadline=None)
@given(seeds, widths, widths, sides, sides, st.booleans())
@torch.no_grad()
def test_a_strided_transposed_convolution_is_served_as_a_convolution_of_the_same_result(seed, a, b, h, w, bias):
    torch.manual_seed(seed)
    layer, x = nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=bias), torch.randn(3, a, h, w)
    assert torch.allclose(served(layer)(x), layer(x), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seeds, widths, widths, st.integers(2, 4), st.integers(2, 4), st.booleans())
@torch.no_grad()
def test_a_transposed_convolution_of_one_pixel_is_served_as_a_matrix_product_of_the_same_result(seed, a, b, h, w, bias):
    torch.manual_seed(seed)
    layer, x = nn.ConvTranspose2d(a, b, (h, w), bias=bias), torch.randn(3, a, 1, 1)
    assert torch.allclose(served(layer)(x), layer(x), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seeds, widths, widths, sides, sides)
@torch.no_grad()
def test_a_convolution_behind_a_doubling_computes_on_no_pixel_twice(seed, a, b, h, w):
    torch.manual_seed(seed)
    layer, x = nn.Conv2d(a, b, 3, padding=1), torch.randn(3, a, h, w)
    assert torch.allclose(enlarging(layer)(x), layer(F.interpolate(x, scale_factor=2)), atol=1e-5)


@pytest.mark.parametrize("layer", [nn.Linear(3, 2), nn.Conv2d(3, 2, 3, padding=1)])
def test_other_layers_are_served_as_they_are(layer):
    assert served(layer) is layer


def test_what_is_served_keeps_the_channels_of_a_pixel_together():
    first, second = Projection(nn.ConvTranspose2d(3, 4, 2)), Doubling(torch.randn(4, 2, 4, 4), torch.randn(2))
    h = first(torch.randn(5, 3, 1, 1))
    assert h.is_contiguous(memory_format=torch.channels_last)
    assert second(h).stride(1) == 1
