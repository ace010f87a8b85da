"""The calls that go on, and the end of those whose token is no longer good."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from memory_server.errors import Unauthenticated
from memory_server.interceptors.access import Access
from memory_server.security.rights import Caller

_SECONDS_BETWEEN_LOOKS = 5.0


class OpenCalls:
    """Ends calls that wait, for a reader or for data: those that go on confirm their token with every message.

    One look for all of them asks once for each caller, however many calls it has open.

    Arguments:
        access: knows which tokens are good.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._ends: defaultdict[Caller, set[asyncio.Timeout]] = defaultdict(set)

    @asynccontextmanager
    async def one_more(self, caller: Caller) -> AsyncIterator[None]:
        """A call, open until the block is left. Raises Unauthenticated when a look finds its token no longer good."""
        try:
            async with asyncio.timeout(None) as end:  # no timer runs: a look sets the end
                self._ends[caller].add(end)
                yield
        except TimeoutError:
            if end.expired():
                raise Unauthenticated from None
            raise
        finally:
            self._ends[caller].discard(end)
            if not self._ends[caller]:
                del self._ends[caller]

    async def look(self) -> None:
        """Ends the calls of those whose token has been revoked or changed, or has expired."""
        for caller in list(self._ends):
            await asyncio.sleep(0)  # with hundreds of tokens each takes a millisecond: others go in between
            try:
                self._access.confirm(caller)
            except Unauthenticated:
                for end in self._ends.pop(caller, ()):
                    end.reschedule(0.0)

    async def keep_looking(self) -> None:
        """Looks every few seconds, for ever."""
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            await self.look()
