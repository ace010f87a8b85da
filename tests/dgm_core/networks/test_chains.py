from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.networks import architecture_of
from dgm_core.networks.chains import Dcgan, Mlp
from dgm_core.networks.grids import grids

sides = st.integers(8, 64)
large = st.integers(8, 256)


@given(large, large)
def test_grids_end_at_the_image_and_each_is_half_of_the_next(height, width):
    sizes = grids(height, width)
    assert sizes[-1] == (height, width) and max(sizes[0]) <= 4
    for small, large in pairwise(sizes):
        assert small == (-(-large[0] // 2), -(-large[1] // 2))


def test_a_chain_has_one_group_per_layer_and_its_head_belongs_to_the_task():
    topology = Dcgan(DataSpec((1, 28, 28), "uint8"), 16).topology((8, 4, 2))
    assert topology.widths == (8, 4, 2)
    assert [(c.reads, c.writes) for c in topology.connections] == [(None, 0), (0, 1), (1, 2), (2, None)]
    assert [c.name for c in topology.shared] == ["body.0.weight", "body.1.weight", "body.2.weight"]


def test_images_and_vectors_get_the_chain_that_suits_them():
    assert isinstance(architecture_of("auto", DataSpec((1, 8, 8), "uint8"), 16), Dcgan)
    assert isinstance(architecture_of("auto", DataSpec((5,), "float32"), 16), Mlp)


def test_a_network_for_images_is_refused_for_vectors_and_an_unknown_one_for_all():
    with pytest.raises(CannotLearn, match="leave network at auto"):
        architecture_of("dcgan", DataSpec((5,), "float32"), 16)
    with pytest.raises(CannotLearn, match="auto, dcgan, residual"):
        architecture_of("transformer", DataSpec((1, 8, 8), "uint8"), 16)


@settings(max_examples=15, deadline=None)
@given(sides, sides, st.sampled_from([1, 3]), st.sampled_from(["dcgan", "residual", "gpgan", "dense"]))
def test_images_of_any_admitted_size_come_out_in_the_learned_shape_and_go_into_the_discriminator(
    height, width, channels, network
):
    spec = DataSpec((channels, height, width), "uint8")
    architecture = architecture_of(network, spec, 8)
    x = architecture.generator(architecture.initial_widths(2), 3)(torch.randn(4, 8), torch.arange(4) % 3)
    assert x.shape == (4, channels, height, width) and x.abs().max() <= 1
    d = architecture.discriminator(3, kernel=4)
    assert d(x, torch.arange(4) % 3).shape == (4,)
    assert d.judge(x)[1].shape == (4, 3)


@pytest.mark.parametrize(
    ("spec", "network"),
    [
        (DataSpec((1, 8, 8), "uint8"), "dcgan"),
        (DataSpec((3, 30, 17), "uint8"), "dcgan"),
        (DataSpec((3, 30, 17), "uint8"), "residual"),
        (DataSpec((3, 9, 8), "uint8"), "dense"),
        (DataSpec((12,), "float32"), "auto"),
    ],
)
def test_folding_the_norms_changes_nothing_but_rounding(spec, network):
    torch.manual_seed(0)
    architecture = architecture_of(network, spec, 16)
    g = architecture.generator(architecture.initial_widths(4), 2)
    z, c = torch.randn(64, 16), torch.arange(64) % 2
    g(z, c)  # moves the norms' statistics away from their start
    g.eval()
    expected = g(z, c)
    folded = g.folded()
    assert torch.allclose(folded(z, c), expected, atol=1e-5)
    assert not any("running_mean" in name for name in folded.state_dict())


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((2, 8, 8), "uint8", "1 or 3 channels"),
        ((1, 7, 8), "uint8", "8 to 256 pixels"),
        ((1, 8, 257), "uint8", "8 to 256 pixels"),
        ((8, 8), "uint8", "image (C, H, W) or a vector"),
        ((0,), "float32", "1 to 65536 features"),
        ((4,), "uint8", "vectors as float32"),
        ((1, 8, 8), "float32", "images are held as uint8"),
    ],
)
def test_other_shapes_and_dtypes_are_refused_with_the_reason(shape, dtype, says):
    with pytest.raises(CannotLearn, match=says.replace("(", r"\(").replace(")", r"\)")):
        DataSpec(shape, dtype)


def test_a_norm_that_learns_finds_a_cropped_grid_in_one_piece_of_memory():
    network = Dcgan(DataSpec((1, 28, 28), "uint8"), 8).generator((8, 6, 4), classes=1)
    dense = []
    for norm in network.norms:
        norm.register_forward_hook(
            lambda _, given, __: dense.append(given[0].is_contiguous(memory_format=torch.channels_last))
        )
    network.train()(torch.randn(4, 8), torch.zeros(4, dtype=torch.long))
    assert dense == [True] * 3
