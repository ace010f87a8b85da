"""A ring in memory that a client on this host shares: rows are put there instead of being sent.

Its layout and its rules are those of SharedMemory in memory.proto. What the client may do to its own memory meanwhile
is bounded: it cannot shrink it, for that is sealed, and what it says to have consumed is believed only where it can be
true.
"""

import fcntl
import mmap
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

NONCE_BYTES = 16
CONSUMED_AT = 64
RING_AT = 4096
LARGEST = 16 << 20

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@dataclass(frozen=True)
class Offer:
    """Memory that a client says to have: see SharedMemory in memory.proto. Nothing of it is checked yet."""

    pid: int
    fd: int
    nonce: bytes
    size: int


@dataclass(frozen=True)
class Placed:
    """Where rows are: `position` counts the bytes of the ring since its begin, `length` is in bytes."""

    position: int
    length: int


class Ring:
    """The server's end of one ring; belongs to one stream and one thread.

    Arguments:
        memory: all of the shared memory; the ring closes it.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._consumed = np.frombuffer(memory, np.uint64, 1, CONSUMED_AT)
        self._bytes = np.frombuffer(memory, np.uint8, -1, RING_AT)
        self._written = 0
        self._trusted = True

    def put(self, parts: Sequence[ndarray]) -> Placed | None:
        """Copies C-contiguous arrays one behind the other; None if there is no room for them, or nothing to copy.

        There is always room for a half of the ring in an empty one.
        """
        length = sum(part.nbytes for part in parts)
        position = self._place(length)
        if length == 0 or position is None:
            return None
        at = position % len(self._bytes)
        for part in parts:
            self._bytes[at : at + part.nbytes] = part.reshape(-1).view(np.uint8)
            at += part.nbytes
        self._written = position + length
        return Placed(position, length)

    def close(self) -> None:
        """Gives the memory back; nothing can be put afterwards."""
        del self._consumed, self._bytes  # a mapping that is in use cannot be closed
        self._memory.close()

    def _place(self, length: int) -> int | None:
        """The position at which so many bytes lie in one piece, over nothing that the client has not consumed."""
        size, consumed = len(self._bytes), int(self._consumed[0])
        self._trusted = self._trusted and self._written - size <= consumed <= self._written
        if not self._trusted:
            return None
        to_end = size - self._written % size
        position = self._written if length <= to_end else self._written + to_end
        return position if position + length - consumed <= size else None


@contextmanager
def opened(offer: Offer | None) -> Iterator[Ring | None]:
    """The ring that is offered, closed on leaving; None if it cannot be used, whatever the reason."""
    memory = None if offer is None else _mapped(offer)
    ring = None if memory is None else Ring(memory)
    try:
        yield ring
    finally:
        if ring is not None:
            ring.close()


def _mapped(offer: Offer) -> mmap.mmap | None:
    if len(offer.nonce) != NONCE_BYTES or not RING_AT < offer.size <= LARGEST or offer.size % RING_AT:
        return None
    path = Path(f"/proc/{offer.pid}/fd/{offer.fd}")
    try:
        # Looked at before it is opened: to open a device or a pipe that somebody named could have effects.
        if not str(path.readlink()).startswith("/memfd:"):
            return None
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:  # there is no such thing here, or it is not ours to open
        return None
    try:
        return mmap.mmap(fd, offer.size) if _is_as_offered(fd, offer) else None
    except OSError:
        return None
    finally:
        os.close(fd)  # the mapping has a descriptor of its own


def _is_as_offered(fd: int, offer: Offer) -> bool:
    """Whether it is ordinary memory that cannot be cut short under our feet, and knows the nonce."""
    about = os.fstat(fd)
    return (
        stat.S_ISREG(about.st_mode)
        and about.st_size == offer.size
        and fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
        and os.fstatvfs(fd).f_bsize == mmap.PAGESIZE  # huge pages may run out when they are touched
        and os.pread(fd, NONCE_BYTES, 0) == offer.nonce
    )
