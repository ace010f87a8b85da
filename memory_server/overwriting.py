"""When freed memory is overwritten: while there may be raw data in this process. It costs what it falls on dearly."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from memory_server import allocator
from memory_server.connections import connections, still_open

_SECONDS_BETWEEN_LOOKS = 1.0

_QUIET_LOOKS = 5
"""So many looks after the last call that brought data, the threads of gRPC have let go of what they had of it."""

_PUSHED_OUT_BY = 256 << 10
"""A connection keeps what it received last until more comes: a last message of that size is all that it keeps."""


class Overwriting:
    """Has freed memory overwritten from the first byte of raw data until no copy of any is left.

    Belongs to one event loop.

    Attributes:
        on: whether it is overwritten now.
    """

    def __init__(self) -> None:
        self.on = False
        self._calls = 0
        self._peers: set[str] = set()
        self._stained: frozenset[int] = frozenset()
        self._quiet = 0

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
        received = Received()
        self._calls += 1
        self.announced()
        try:
            yield received
        finally:
            self._calls -= 1
            self._quiet = 0
            if not received.pushed_out:
                self._peers.add(peer)

    async def keep_looking(self) -> None:
        """Looks every second, for ever."""
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            self.look()

    def look(self) -> None:
        """Overwrites no longer, if for a while no call has brought data and no connection has kept any."""
        if not self.on:
            return
        self._quiet = 0 if self._calls or self._stains() else self._quiet + 1
        if self._quiet > _QUIET_LOOKS:
            gc.collect()  # what refers to itself would be freed later
            self._switch(on=False)

    def _stains(self) -> bool:
        """Whether connections are open that may keep data."""
        try:
            self._stained = still_open(self._stained).union(*map(connections, self._peers))
        except OSError:  # the process has no descriptor left to look with
            return True
        self._peers.clear()
        return bool(self._stained)

    def _switch(self, on: bool) -> None:
        if on != self.on:
            allocator.switch(on)
            self.on = on


class Received:
    """What a call has brought.

    Attributes:
        pushed_out: whether its connection keeps none of the data.
    """

    def __init__(self) -> None:
        self.pushed_out = False
        self._last = 0

    def message(self, nbytes: int) -> None:
        """A message of that size."""
        self._last = nbytes

    def whole(self) -> None:
        """All messages came, the last of which is no data."""
        self.pushed_out = self._last >= _PUSHED_OUT_BY
