"""Who is told how learning goes: what counts it, logs it and draws it for the operator."""

from collections.abc import Iterable

import structlog

from dgm_core.memory import Progress
from memory_server.learning.messages import Renewal
from memory_server.learning.status import TaskStatus
from memory_server.store.records import TaskState


class Observer:
    """Told of whatever becomes of tasks, retrainings and sleeps, on the event loop; as it stands it does not care."""

    def changed(self, status: TaskStatus) -> None:
        """A task has been queued, or what is known of it has changed."""

    def renewing(self, how: Renewal, memory: str, progress: Progress | None) -> None:
        """The solver of a memory is being trained anew, or it sleeps; None before there is any progress."""

    def renewed(self, how: Renewal, memory: str, ended: TaskState, consolidated: int) -> None:
        """That has ended: LEARNED, with so many tasks consolidated, CANCELLED or FAILED."""


class Observers(Observer):
    """Tells several. One that fails is logged and harms neither the others nor what it was told of."""

    def __init__(self, each: Iterable[Observer]) -> None:
        self._each = tuple(each)

    def changed(self, status: TaskStatus) -> None:
        """See `Observer.changed`."""
        self._tell("changed", status)

    def renewing(self, how: Renewal, memory: str, progress: Progress | None) -> None:
        """See `Observer.renewing`."""
        self._tell("renewing", how, memory, progress)

    def renewed(self, how: Renewal, memory: str, ended: TaskState, consolidated: int) -> None:
        """See `Observer.renewed`."""
        self._tell("renewed", how, memory, ended, consolidated)

    def _tell(self, what: str, *facts: object) -> None:
        for observer in self._each:
            try:
                getattr(observer, what)(*facts)
            except Exception as error:
                name = type(observer).__name__
                structlog.get_logger().error("an observer of learning failed", observer=name, error=repr(error))
