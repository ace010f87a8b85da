"""A line of the log for each state that a task reaches. Names, counts and times, never data."""

import structlog

from memory_server.learning.messages import Renewal
from memory_server.learning.observer import Observer
from memory_server.learning.status import TaskStatus
from memory_server.store.records import TaskRecord, TaskState

_PAST = {Renewal.SOLVER: "restored", Renewal.SLEEP: "slept"}


class Journal(Observer):
    """Logs where the caller's context says which call a task came with."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], TaskState] = {}
        self._log = structlog.get_logger()

    def changed(self, status: TaskStatus) -> None:
        """See `Observer.changed`."""
        record = status.record
        key = record.memory, record.task
        if self._states.get(key) is record.state:
            return
        self._states[key] = record.state
        if record.state.final:
            del self._states[key]
        facts = _ending(record) if record.state.final else {"rows": record.count}
        self._log.info("task", memory=record.memory, task=record.task, state=record.state.value, **facts)

    def renewing(self, how: Renewal, memory: str, progress: object) -> None:
        """See `Observer.renewing`."""
        if progress is None:
            self._log.info(how.value, memory=memory)

    def renewed(self, how: Renewal, memory: str, ended: TaskState, consolidated: int) -> None:
        """See `Observer.renewed`."""
        self._log.info(_PAST[how], memory=memory, state=ended.value, consolidated=consolidated)


def _ending(record: TaskRecord) -> dict[str, object]:
    """What is worth knowing of a task that has ended; a failure's message is its owner's and may name values."""
    if record.state is TaskState.LEARNED:
        seconds = round(record.learn_seconds, 3)
        return {"steps": record.steps, "quality": record.quality, "seconds": seconds, "revision": record.revision}
    return {"reason": record.error_reason} if record.state is TaskState.FAILED else {}
