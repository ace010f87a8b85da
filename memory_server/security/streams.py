"""How many streams and other calls that last each client may have open."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean

from memory_server.errors import ClientLimit

_UNKNOWN_SECONDS = 30.0
_SOONEST = 1.0
_NEWEST_WEIGHS = 0.3


class OpenStreams:
    """Counts streams, or other calls, by client. Safe to use from any thread.

    Arguments:
        most: that one client may have open at one time.
        what: they are.
        setting: that says how many.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        most: int,
        what: str = "streams",
        setting: str = "--client-streams",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._what = what
        self._setting = setting
        self._clock = clock
        self._guard = threading.Lock()
        self._since: defaultdict[str, list[float]] = defaultdict(list)
        self._typical = _UNKNOWN_SECONDS

    @contextmanager
    def one_more(self, client: str) -> Iterator[None]:
        """A stream of a client, open until the block is left. Raises ClientLimit if it has too many."""
        since = self._begin(client)
        try:
            yield
        finally:
            self._end(client, since)

    def _begin(self, client: str) -> float:
        with self._guard:
            if len(self._since[client]) >= self._most:
                raise ClientLimit(
                    f"{client} has {self._most} {self._what} open, the most for one client ({self._setting}); "
                    "close some, or wait for one to end",
                    self._wait(self._since[client]),
                )
            self._since[client].append(now := self._clock())
            return now

    def _end(self, client: str, since: float) -> None:
        with self._guard:
            self._since[client].remove(since)
            if not self._since[client]:
                del self._since[client]
            self._typical += _NEWEST_WEIGHS * (self._clock() - since - self._typical)

    def _wait(self, since: list[float]) -> float:
        """Seconds until one of these streams has ended: k of them that last t seconds each end every t / k."""
        lasting = max(self._typical, self._clock() - fmean(since))
        return max(_SOONEST, lasting / len(since))
