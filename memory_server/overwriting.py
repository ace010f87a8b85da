"""When freed memory is overwritten: while there may be raw data in this process. It costs what it falls on dearly."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from memory_server import allocator
from memory_server.connections import Connections

_SECONDS_BETWEEN_LOOKS = 1.0

_QUIET_LOOKS = 5
"""So many looks after the last call that brought data, the threads of gRPC have let go of what they had of it."""

_PUSHED_OUT_BY = 256 << 10
"""A connection keeps what it received last until more comes: a last message of that size is all that it keeps."""

_PADDING = bytes(_PUSHED_OUT_BY)


class Overwriting:
    """Has freed memory overwritten from the first byte of raw data until no copy of any is left.

    Belongs to one event loop.

    Arguments:
        able: whether the allocator can overwrite all that is freed.

    Attributes:
        on: whether it is to be overwritten now.
    """

    def __init__(self, able: bool) -> None:
        self._able = able
        self.on = False
        self._open: list[Received] = []
        self._ended: list[tuple[str, bool]] = []  # whose calls since the last look, and whether they left data
        self._stained: set[int] = set()
        self._quiet = 0

    @property
    def complete(self) -> bool:
        """Whether all that is freed is overwritten now."""
        return self.on and self._able

    def announced(self) -> None:
        """A call has come that brings data."""
        self._quiet = 0
        self._switch(on=True)

    @contextmanager
    def call(self, peer: str) -> Iterator["Received"]:
        """A call that brings data is answered inside the block.

        Arguments:
            peer: whose it is, as gRPC names it.
        """
        received = Received(peer)
        for other in (each for each in self._open if each.peer == peer):
            other.alone = received.alone = False
        self._open.append(received)
        self.announced()
        try:
            yield received
        finally:
            self._open.remove(received)
            self._quiet = 0
            if not received.pushed_out:
                self._ended.append((peer, True))
            elif received.alone:
                self._ended.append((peer, False))

    async def keep_looking(self) -> None:
        """Looks every second, for ever."""
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            self.look()

    def look(self) -> None:
        """Overwrites no longer, if for a while no call has brought data and no connection has kept any."""
        if not self.on:
            return
        stained = self._stains()
        self._quiet = 0 if self._open or stained else self._quiet + 1
        if self._quiet > _QUIET_LOOKS:
            gc.collect()  # what refers to itself would be freed later
            self._switch(on=False)

    def _stains(self) -> bool:
        """Whether connections are open that may keep data."""
        if not self._stained and not self._ended:
            return False
        try:
            present = Connections()
        except OSError:  # the process has no descriptor left to look with
            return True
        self._stained &= present.all
        for peer, left in self._ended:
            its = present.of(peer)
            if left:
                self._stained |= its
            elif len(its) == 1:  # of several it is not known which one it was
                self._stained -= its
        self._ended.clear()
        return bool(self._stained)

    def _switch(self, on: bool) -> None:
        if on != self.on:
            allocator.switch(on)
            self.on = on


class Received:
    """What a call has brought.

    Arguments:
        peer: who sent it.

    Attributes:
        pushed_out: whether the connection keeps none of it.
        alone: whether nothing else came from that peer meanwhile: what pushed this out has pushed out what was before.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.pushed_out = False
        self.alone = True
        self._last = 0

    def message(self, nbytes: int) -> None:
        """A message of that size."""
        self._last = nbytes

    def whole(self) -> None:
        """All messages came, the last of which is no data."""
        self.pushed_out = self._last >= _PUSHED_OUT_BY

    def only(self, content: bytes) -> None:
        """The one message of the call, which may end with padding."""
        self.pushed_out = content.endswith(_PADDING)
