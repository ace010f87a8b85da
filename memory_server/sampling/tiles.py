"""What goes into a network for a tile."""

import threading

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from memory_server.sampling import noise
from memory_server.sampling.plan import Tile

_OWN = threading.local()
"""A generator of each thread: they are not to be shared."""


def promised(tile: Tile, seed: int, noise_dim: int) -> Float[ndarray, "rows noise_dim"]:
    """The noise (float32) of a tile of a stream with that seed, a row for each of its places."""
    return np.concatenate([noise.normal(seed, run.batch, run.label, run.rows, noise_dim) for run in tile.runs])


def fresh(rows: int, noise_dim: int) -> Float[ndarray, "rows noise_dim"]:
    """Noise (float32) that was never drawn before and never will be again."""
    if not hasattr(_OWN, "source"):
        _OWN.source = np.random.Generator(np.random.SFC64())  # seeded by the system
    source: np.random.Generator = _OWN.source
    return source.standard_normal((rows, noise_dim), np.float32)


def classes(tile: Tile) -> Int[ndarray, " rows"]:
    """Class indices (int64) of a tile, a row for each of its places."""
    return np.repeat(np.array([run.index for run in tile.runs]), [len(run.rows) for run in tile.runs])
