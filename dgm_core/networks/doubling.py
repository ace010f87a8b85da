"""The layer that doubles the sides of a grid."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_COARSE = 16
"""Pixels."""

_MANY = 1 << 20
"""Weights, from which on a processor is faster with a product."""


class DoubledGrid(nn.ConvTranspose2d):
    """A transposed convolution 4 × 4 of stride 2 and padding 1.

    Of a coarse grid with very many channels it is a product of matrices of some size, and is trained in less time as
    such on a processor than as the convolution that it is.

    Arguments:
        inputs: channels.
        outputs: likewise.
        bias: whether it has one.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=bias)

    def forward(self, x: Float[Tensor, "n c h w"], output_size: list[int] | None = None) -> Float[Tensor, "n c2 h2 w2"]:
        """Twice the grid."""
        assert output_size is None
        if x.is_cpu and x.shape[2] * x.shape[3] <= _COARSE and self.weight.numel() >= _MANY:
            return self._product(x)
        return super().forward(x)

    def _product(self, x: Tensor) -> Tensor:
        """The same, channels last in memory.

        Every pixel writes 4 × 4 pixels: 2 × 2 into each of the four places between itself and its neighbours.
        """
        blocks = self.weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).permute(0, 2, 4, 3, 5, 1)  # c u v p q c2
        written = (x.permute(0, 2, 3, 1) @ blocks.flatten(1)).chunk(4, dim=3)
        moved = ((0, 1), (1, 0))  # of two places, the first is before the pixel, the second behind it
        places = sum(F.pad(written[2 * u + v], (0, 0, *moved[v], *moved[u])) for u in (0, 1) for v in (0, 1))
        assert isinstance(places, Tensor)
        doubled = interleaved(places)
        return doubled if self.bias is None else doubled + self.bias[:, None, None]


def interleaved(places: Float[Tensor, "n h w c"]) -> Float[Tensor, "n c2 h2 w2"]:
    """The pixels of all places, of which each holds a block of 2 × 2, in a grid that is channels last in memory.

    Arguments:
        places: before, between and behind the h − 1 × w − 1 pixels that were doubled. A block has c = 4·c2 values, row
            by row, the channels of a pixel side by side. What lies outside of the doubled grid is cut off.
    """
    blocks = places.unflatten(3, (2, 2, places.shape[3] // 4))
    pixels: Tensor = blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return pixels[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
