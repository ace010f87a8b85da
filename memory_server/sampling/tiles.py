"""What goes into a network for a tile."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from memory_server.sampling import noise
from memory_server.sampling.plan import Tile


def inputs(tile: Tile, seed: int, noise_dim: int) -> tuple[Float[ndarray, "rows noise_dim"], Int[ndarray, " rows"]]:
    """Noise (float32) and class indices (int64) of a tile, a row for each of its places."""
    z = [noise.normal(seed, run.batch, run.label, run.rows, noise_dim) for run in tile.runs]
    c = np.repeat([run.index for run in tile.runs], [len(run.rows) for run in tile.runs])
    return np.concatenate(z), c.astype(np.int64, copy=False)
