"""The connections of this process, by the system's own account of them: gRPC does not say when one has ended."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")

_UNIX = "unix"
"""Peers on Unix sockets have no names: each stands for all of them."""


class Connections:
    """Those that are open at this moment, each known by a number that no other one will get."""

    def __init__(self) -> None:
        self._by_peer: dict[str, set[int]] = {}
        for inode, peer in _connected():
            self._by_peer.setdefault(peer, set()).add(inode)

    @property
    def all(self) -> set[int]:
        """All of them."""
        return set().union(*self._by_peer.values())

    def of(self, peer: str) -> set[int]:
        """Those of a peer, as gRPC names it."""
        return self._by_peer.get(_UNIX if peer.startswith(_UNIX) else peer.rpartition(":")[2], set())


def _connected() -> Iterator[tuple[int, str]]:
    """The inode of each socket that is connected to a peer, and the port of that peer."""
    for entry in _DESCRIPTORS.iterdir():
        descriptor = int(entry.name)
        with suppress(OSError):  # closed meanwhile, or connected to nobody
            status = os.fstat(descriptor)
            if stat.S_ISSOCK(status.st_mode):
                yield status.st_ino, _port(descriptor)


def _port(descriptor: int) -> str:
    end = socket.socket(fileno=descriptor)
    try:
        far = end.getpeername()
        if end.family != socket.AF_UNIX:
            return str(far[1])
        return _UNIX if end.getsockname() else ""  # a pair of sockets, both of this process
    finally:
        end.detach()
