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


def connections(peer: str) -> frozenset[int]:
    """What identifies the connections of a peer, which no other connection will get; `peer` is as gRPC names it."""
    wanted = _UNIX if peer.startswith(_UNIX) else peer.rpartition(":")[2]
    return frozenset(inode for inode, other in _connected() if other == wanted)


def still_open(connections: frozenset[int]) -> frozenset[int]:
    """Those of `connections` that are not closed yet."""
    return connections.intersection(inode for inode, _ in _connected()) if connections else connections


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
