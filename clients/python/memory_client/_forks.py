"""Forks while streams are read: no thread may be inside of gRPC then, so calls are broken off, and opened anew after.

gRPC starts threads of its own in a forked child, which end what the parent had open. For a call that some thread waited
on, they write to the stack that this thread had, and so hang or abort the child before it does anything at all. There
is no mending that afterwards: the process is quiet before it is forked, or its child must not use gRPC.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol, TypeVar

from memory_client.errors import ForkedWhileStreaming

_LEAVING_SECONDS = 1.0
_POLL_SECONDS = 0.001


class Call(Protocol):
    """What a stream is read by."""

    @property
    def open(self) -> bool:
        """Whether threads may be inside of gRPC for it."""

    def interrupt(self) -> bool:
        """Breaks it off if its reader can go on with another one; says whether it is about to end."""


C = TypeVar("C", bound=Call)


class _Forks:
    """The calls of this process, and whether any was open when it was forked."""

    def __init__(self) -> None:
        self._calls: weakref.WeakSet[Call] = weakref.WeakSet()
        self._gate = threading.Condition()
        self._forking = 0  # threads that are at it
        self._interrupted = False
        os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

    def opened(self, make: Callable[[], C]) -> C:
        with self._gate:
            self._gate.wait_for(lambda: not self._forking)
            call = make()
            self._calls.add(call)
            return call

    def check(self) -> None:
        if self._interrupted:
            raise ForkedWhileStreaming(
                "this process was forked while its parent was in a call that could not be broken off, which gRPC does "
                "not bear. Wait for its end before you fork, or start the process by spawn: "
                "DataLoader(..., multiprocessing_context='spawn')"
            )

    def _before(self) -> None:
        with self._gate:
            self._forking += 1
            calls = list(self._calls)
        ending = [call for call in calls if call.interrupt()]
        deadline = time.monotonic() + _LEAVING_SECONDS
        while any(call.open for call in ending) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _in_parent(self) -> None:
        with self._gate:
            self._forking -= 1
            self._gate.notify_all()

    def _in_child(self) -> None:
        self._interrupted |= any(call.open for call in self._calls)
        self._calls.clear()
        self._gate, self._forking = threading.Condition(), 0  # whose threads are the parent's


_FORKS = _Forks()


def opened(make: Callable[[], C]) -> C:
    """The call that `make` opens, once no fork is under way; forks know of it then, and do not keep it alive."""
    return _FORKS.opened(make)


def check() -> None:
    """Raises ForkedWhileStreaming in a process that gRPC may not be used in."""
    _FORKS.check()
