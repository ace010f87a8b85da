"""Memory that a server on this host puts samples into, instead of sending them: SharedMemory in memory.proto.

Only the file descriptor names it, so nothing is left behind, whoever dies. Without it everything works the same.
"""

import mmap
import os
import re
import secrets
import sys
import weakref

from memory_api.v1 import memory_pb2 as pb

from memory_client.errors import InternalError

SIZE = 4 << 20
_NONCE_BYTES, _CONSUMED_AT, _RING_AT = 16, 64, 4096

_LOCAL = re.compile(
    r"unix(-abstract)?:.+|(dns:(//[^/]*/)?|ipv[46]:)?(localhost|127(\.\d+){3}|\[::1\]|%5B::1%5D)(:\d+)?", re.IGNORECASE
)


def is_local(target: str) -> bool:
    """Whether a gRPC target names this host; what runs there may still be a tunnel to another."""
    return _LOCAL.fullmatch(target) is not None


class SharedRing:
    """The client's end of one ring; belongs to one stream and one thread.

    Arguments:
        size: of the memory in bytes, a multiple of 4096.

    Attributes:
        offer: for the request.
    """

    def __init__(self, size: int = SIZE) -> None:
        import fcntl  # noqa: PLC0415 - not on every system that has a client

        fd = os.memfd_create("samples", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._close_fd = weakref.finalize(self, os.close, fd)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self._memory = mmap.mmap(fd, size)
        self._consumed = memoryview(self._memory)[_CONSUMED_AT : _CONSUMED_AT + 8].cast("Q")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        self._memory[:_NONCE_BYTES] = nonce
        self.offer = pb.SharedMemory(pid=os.getpid(), fd=fd, nonce=nonce, size=size)

    @classmethod
    def made(cls) -> "SharedRing | None":
        """A new one; None where the system has no such memory, or none left."""
        try:
            return cls() if sys.platform == "linux" else None
        except OSError:
            return None

    def take(self, rows: pb.SharedRows) -> bytes:
        """A copy of rows that the server has put here; their place may then be used again.

        The message that tells of them orders the server's writes before our reads.

        Raises:
            InternalError: they would not lie in the ring.
        """
        size = len(self._memory) - _RING_AT
        first = _RING_AT + rows.position % size
        if first + rows.length > len(self._memory):
            raise InternalError(f"the server put {rows.length} bytes beyond the ring: see the server's log")
        content = self._memory[first : first + rows.length]
        self._consumed[0] = rows.position + rows.length
        return content

    def close(self) -> None:
        """Gives the memory back; may be called more than once."""
        self._consumed.release()
        self._memory.close()
        self._close_fd()
