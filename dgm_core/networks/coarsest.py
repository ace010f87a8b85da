"""The layer that makes the coarsest grid of pixels out of a vector."""

from jaxtyping import Float
from torch import Tensor, nn

from dgm_core.networks.grids import Grid


class CoarsestGrid(nn.ConvTranspose2d):
    """A transposed convolution of a 1 × 1 input, computed as the matrix product that it is: far quicker on a CPU.

    Arguments:
        inputs: length of the vector.
        outputs: channels.
        grid: height and width.
    """

    def __init__(self, inputs: int, outputs: int, grid: Grid) -> None:
        super().__init__(inputs, outputs, grid, bias=False)

    def forward(self, x: Float[Tensor, "n c 1 1"], output_size: list[int] | None = None) -> Float[Tensor, "n c2 h w"]:
        """The grid, channels last in memory: the layers behind it are slower on any other order."""
        assert output_size is None
        by_pixel = self.weight.permute(0, 2, 3, 1)
        pixels: Tensor = (x.flatten(1) @ by_pixel.flatten(1)).unflatten(1, by_pixel.shape[1:]).permute(0, 3, 1, 2)
        return pixels if self.bias is None else pixels + self.bias[:, None, None]
