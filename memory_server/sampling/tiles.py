"""What goes into a network for a tile, and what comes out of it as pixels."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from memory_server.sampling import noise
from memory_server.sampling.plan import Tile


def inputs(tile: Tile, seed: int, noise_dim: int) -> tuple[Float[ndarray, "rows noise_dim"], Int[ndarray, " rows"]]:
    """Noise (float32) and class indices (int64) of a tile, a row for each of its places."""
    z = [noise.normal(seed, run.batch, run.label, run.rows, noise_dim) for run in tile.runs]
    c = np.repeat([run.index for run in tile.runs], [len(run.rows) for run in tile.runs])
    return np.concatenate(z), c.astype(np.int64, copy=False)


def to_uint8(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Images in [-1, 1] as pixels: -1 is 0, 1 is 255, to the nearest."""
    return x.clamp(-1, 1).mul(127.5).add(127.5).round_().to(torch.uint8)
