"""Noise as a function: z = N(0, I) from (seed, batch, class, row), with nothing else having a say.

Philox is counter-based (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011): its key names a sequence and
its counter a place in it. Here the key is a hash of seed, batch and class, the counter is the block of rows: any row is
reached without drawing all those before it, and no client, revision or expert can move it.
"""

import threading
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from dgm_core.manifest import Label

BLOCK = 64
"""Rows that share one counter block; a row is a function of its block and its place in it."""

_WORD = (1 << 64) - 1


class _Philox(threading.local):
    """One generator of each thread, which is put where it is needed: to make one takes longer than what most draw."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._start = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, key: int, block: int = 0) -> np.random.Generator:
        """The generator of that key, at the begin of a block; until the next call."""
        state: Any = {"key": (key & _WORD, key >> 64), "counter": (0, block, 0, 0)}
        self._bits.state = {**self._start, "state": state}
        return self._generator


_PHILOX = _Philox()


def canonical(label: Label) -> bytes:
    """A class label as bytes, as in the wire's digest: 'i' + int64 or 's' + uint32 length + UTF-8, little-endian."""
    if isinstance(label, int):
        return b"i" + label.to_bytes(8, "little", signed=True)
    text = label.encode()
    return b"s" + len(text).to_bytes(4, "little") + text


def normal(seed: int, batch: int, label: Label, rows: range, noise_dim: int) -> Float[ndarray, "rows noise_dim"]:
    """Standard normal float32 noise for consecutive `rows` of one class in one batch.

    Arguments:
        seed: of the stream, 64 bits.
        batch: index of the batch in the stream, from 0.
        label: the class.
        rows: positions among the rows of this class in this batch, from 0.
        noise_dim: length of one noise vector.
    """
    key = _key(b"noise", seed, batch, canonical(label))
    first, last = rows.start // BLOCK, -(-rows.stop // BLOCK)
    blocks = [_block(key, block, min(BLOCK, rows.stop - block * BLOCK), noise_dim) for block in range(first, last)]
    return np.concatenate(blocks)[rows.start - first * BLOCK :]


def permutation(seed: int, batch: int, segment: int, rows: int) -> ndarray:
    """A random order of `rows` places, int64, keyed by seed, batch and the segment of the batch."""
    key = _key(b"order", seed, batch, segment.to_bytes(8, "little"))
    return _PHILOX.at(key).permutation(rows)


def below(limit: int, seed: int, batch: int, label: Label, segment: int) -> int:
    """A random integer in [0, limit), keyed by seed, batch, segment and class."""
    key = _key(b"share", seed, batch, segment.to_bytes(8, "little") + canonical(label))
    return key % limit


def _key(purpose: bytes, seed: int, batch: int, rest: bytes) -> int:
    text = seed.to_bytes(8, "little") + batch.to_bytes(8, "little") + rest
    return int.from_bytes(blake2b(text, digest_size=16, person=purpose).digest(), "little")


def _block(key: int, block: int, rows: int, noise_dim: int) -> Float[ndarray, "rows noise_dim"]:
    return _PHILOX.at(key, block).standard_normal((rows, noise_dim), dtype=np.float32)
