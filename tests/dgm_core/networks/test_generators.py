from itertools import pairwise

import pytest
import torch
from dgm_core.networks.generators import chain_generator, initial_widths, layer_sizes, weight_shapes
from hypothesis import given, settings
from hypothesis import strategies as st

from dgm_core.memory import CannotLearn, DataSpec
from dgm_core.networks.discriminators import conv_discriminator, halvings, mlp_discriminator, spectrally_normalised
from dgm_core.networks.grids import grids

sides = st.integers(8, 64)


@given(sides, sides)
def test_grids_end_at_the_image_and_each_is_half_of_the_next(height, width):
    sizes = grids(height, width)
    assert sizes[-1] == (height, width) and max(sizes[0]) <= 4
    for small, large in pairwise(sizes):
        assert small == (-(-large[0] // 2), -(-large[1] // 2))


@settings(max_examples=15, deadline=None)
@given(sides, sides, st.sampled_from([1, 3]))
def test_images_of_any_admitted_size_come_out_in_the_learned_shape_and_go_into_the_discriminator(
    height, width, channels
):
    spec = DataSpec((channels, height, width), "uint8")
    x = chain_generator(spec, initial_widths(spec, 2), 3, 8)(torch.randn(4, 8), torch.arange(4) % 3)
    assert x.shape == (4, channels, height, width) and x.abs().max() <= 1
    d = conv_discriminator(spec, [4] * halvings(spec), 3)
    assert d(x, torch.arange(4) % 3).shape == (4,)
    assert d.judge(x)[1].shape == (4, 3)


@pytest.mark.parametrize(
    "spec", [DataSpec((1, 8, 8), "uint8"), DataSpec((3, 30, 17), "uint8"), DataSpec((12,), "float32")]
)
def test_folding_the_norms_changes_nothing_but_rounding(spec):
    torch.manual_seed(0)
    network = chain_generator(spec, initial_widths(spec, 4), 2, 16)
    z, c = torch.randn(64, 16), torch.arange(64) % 2
    network(z, c)  # moves the norms' statistics away from their start
    network.eval()
    assert torch.allclose(network.folded()(z, c), network(z, c), atol=1e-5)


def test_layer_sizes_count_the_shared_weights():
    spec = DataSpec((1, 28, 28), "uint8")
    network = chain_generator(spec, (8, 4, 2), 2, 16)
    counted = [network.get_parameter(name).numel() for name in network.shared_names]
    assert counted == layer_sizes(spec, (8, 4, 2), 16)
    assert list(weight_shapes(spec, (8, 4, 2), 16)) == list(network.shared_names)


def test_vectors_go_through_an_mlp_discriminator_with_bounded_slope():
    spec = DataSpec((6,), "float32")
    d = spectrally_normalised(mlp_discriminator(spec, (16, 16), 2))
    for _ in range(50):  # power iteration
        d(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))
    d.eval()
    x = torch.randn(256, 6)
    moved = x + 1e-2 * torch.randn(256, 6)
    slope = (d.features(x) - d.features(moved)).norm(dim=1) / (x - moved).norm(dim=1)
    assert slope.max() <= 1.05


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((2, 8, 8), "uint8", "1 or 3 channels"),
        ((1, 7, 8), "uint8", "8 to 64 pixels"),
        ((1, 8, 65), "uint8", "8 to 64 pixels"),
        ((8, 8), "uint8", "image (C, H, W) or a vector"),
        ((0,), "float32", "1 to 65536 features"),
        ((4,), "uint8", "vectors as float32"),
        ((1, 8, 8), "float32", "images are held as uint8"),
    ],
)
def test_other_shapes_and_dtypes_are_refused_with_the_reason(shape, dtype, says):
    with pytest.raises(CannotLearn, match=says.replace("(", r"\(").replace(")", r"\)")):
        DataSpec(shape, dtype)
