"""Processes that were forked while a stream was read: gRPC may hang or abort in them, so they must not call.

gRPC puts itself in order around a fork, unless a thread is inside of it at that moment: then it leaves the child with
locks that nobody holds and pollers that nobody wakes. Streams that were closed a moment ago are waited for; of one that
is open, the child says so in words.
"""

import os
import time
import weakref
from typing import Protocol

from memory_client.errors import ForkedWhileStreaming

_LEAVING_SECONDS = 1.0
_POLL_SECONDS = 0.001


class Reader(Protocol):
    """A thread that reads a stream."""

    @property
    def closed(self) -> bool:
        """Whether it has been told to end."""

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""


class _Forks:
    """What the readers of this process did when it was forked."""

    def __init__(self) -> None:
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._interrupted = False
        os.register_at_fork(before=self._before, after_in_child=self._in_child)

    def watch(self, reader: Reader) -> None:
        self._readers.add(reader)

    def check(self) -> None:
        if self._interrupted:
            raise ForkedWhileStreaming(
                "this process was forked while its parent read a stream, which gRPC does not bear. Close the stream "
                "before you fork, or start the process by spawn: DataLoader(..., multiprocessing_context='spawn')"
            )

    def _before(self) -> None:
        deadline = time.monotonic() + _LEAVING_SECONDS
        while any(reader.closed and reader.running for reader in self._readers) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _in_child(self) -> None:
        self._interrupted |= any(reader.running for reader in self._readers)
        self._readers.clear()


_FORKS = _Forks()


def watch(reader: Reader) -> None:
    """Has forks know of a reader of this process; it is not kept alive."""
    _FORKS.watch(reader)


def check() -> None:
    """Raises ForkedWhileStreaming in a process that gRPC may not be used in."""
    _FORKS.check()
