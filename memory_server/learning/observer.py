"""Who is told how learning goes: what counts it, logs it and draws it for the operator."""

from collections.abc import Iterable

import structlog

from dgm_core.memory import Progress
from memory_server.learning.status import TaskStatus
from memory_server.store.records import TaskState


class Observer:
    """Told of whatever becomes of tasks and retrainings, on the event loop; as it stands it does not care."""

    def changed(self, status: TaskStatus) -> None:
        """A task has been queued, or what is known of it has changed."""

    def retraining(self, memory: str, progress: Progress | None) -> None:
        """The solver of a memory is being trained anew; None before there is any progress."""

    def retrained(self, memory: str, ended: TaskState) -> None:
        """That has ended: LEARNED, CANCELLED or FAILED."""


class Observers(Observer):
    """Tells several. One that fails is logged and harms neither the others nor what it was told of."""

    def __init__(self, each: Iterable[Observer]) -> None:
        self._each = tuple(each)

    def changed(self, status: TaskStatus) -> None:
        """See `Observer.changed`."""
        self._tell("changed", status)

    def retraining(self, memory: str, progress: Progress | None) -> None:
        """See `Observer.retraining`."""
        self._tell("retraining", memory, progress)

    def retrained(self, memory: str, ended: TaskState) -> None:
        """See `Observer.retrained`."""
        self._tell("retrained", memory, ended)

    def _tell(self, what: str, *facts: object) -> None:
        for observer in self._each:
            try:
                getattr(observer, what)(*facts)
            except Exception as error:
                name = type(observer).__name__
                structlog.get_logger().error("an observer of learning failed", observer=name, error=repr(error))
