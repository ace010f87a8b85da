import pytest
import torch
from torch.nn import functional as F

from dgm_core.networks.coarsest import CoarsestGrid


@pytest.mark.parametrize("biased", [False, True], ids=["as it is trained", "with a norm folded in"])
def test_a_coarsest_grid_is_the_transposed_convolution_of_a_single_pixel(biased):
    layer = CoarsestGrid(6, 5, (3, 4)).double()
    if biased:
        layer.bias = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    x = torch.randn(7, 6, 1, 1, dtype=torch.float64)
    grid = layer(x)
    torch.testing.assert_close(grid, F.conv_transpose2d(x, layer.weight, layer.bias))
    assert grid.is_contiguous(memory_format=torch.channels_last)
