import pytest
import torch
from torch.nn import functional as F

from dgm_core.networks import doubling
from dgm_core.networks.doubling import DoubledGrid


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (3, 2)])
def test_a_doubled_grid_is_the_transposed_convolution_however_it_is_computed(monkeypatch, grid, biased):
    monkeypatch.setattr(doubling, "_MANY", 1)
    layer = DoubledGrid(6, 5, bias=biased).double()
    x = torch.randn(7, 6, *grid, dtype=torch.float64, requires_grad=True)
    found, wanted = layer(x), F.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(found, wanted)
    way = torch.randn_like(wanted)
    for given, asked in zip(*(torch.autograd.grad(y, (x, layer.weight), way) for y in (found, wanted)), strict=True):
        torch.testing.assert_close(given, asked)


def test_only_a_coarse_grid_of_many_channels_is_computed_as_a_product(monkeypatch):
    asked = []
    product = DoubledGrid._product
    monkeypatch.setattr(DoubledGrid, "_product", lambda layer, x: asked.append(x.shape) or product(layer, x))
    for channels, side in ((256, 4), (256, 5), (255, 4)):
        DoubledGrid(channels, 256, bias=False)(torch.randn(1, channels, side, side))
    assert asked == [(1, 256, 4, 4)]
