"""One tile from noise to bytes: the only place where sampling runs a network."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from dgm_core.memory import Expert
from memory_server.sampling import noise
from memory_server.sampling.plan import Tile


@torch.inference_mode()
def compute(expert: Expert, tile: Tile, *, seed: int, device: torch.device, as_uint8: bool) -> ndarray:
    """The rows of a tile in its own order: uint8 images, or float32 images in [-1, 1] or vectors."""
    z, c = inputs(tile, seed, expert.noise_dim)
    x = expert.generate(z.to(device), c.to(device))[: len(tile.places)]
    return (to_uint8(x) if as_uint8 else x).cpu().numpy()


def inputs(tile: Tile, seed: int, noise_dim: int) -> tuple[Float[Tensor, "padded noise_dim"], Int[Tensor, " padded"]]:
    """Noise and class indices of a tile; the rows that pad it are zero."""
    z = np.zeros((tile.padded, noise_dim), np.float32)
    c = np.zeros(tile.padded, np.int64)
    at = 0
    for run in tile.runs:
        here = slice(at, at + len(run.rows))
        z[here] = noise.normal(seed, run.batch, run.label, run.rows, noise_dim)
        c[here] = run.index
        at += len(run.rows)
    return torch.from_numpy(z), torch.from_numpy(c)


def to_uint8(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Images in [-1, 1] as pixels: -1 is 0, 1 is 255, to the nearest."""
    return x.clamp(-1, 1).mul(127.5).add(127.5).round_().to(torch.uint8)
