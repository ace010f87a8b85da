"""What learning has done since the server started, as Prometheus counters."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram

from dgm_core.memory import Progress
from memory_server.learning.endings import REASONS
from memory_server.learning.messages import Renewal
from memory_server.learning.observer import Observer
from memory_server.learning.status import TaskStatus
from memory_server.store.records import TaskState

_REASONS = frozenset(REASONS.values())
_UNNAMED = "OTHER"
_COMMIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TASK_SECONDS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000)

Key = tuple[str, str]
"""(memory, task); the task of a renewal is empty."""


class LearningCounters(Observer):
    """Counts ends of tasks, commits and training steps. No label names a memory or a task.

    Arguments:
        registry: where the metrics are registered.
        clock: seconds, never going back.
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[Key, tuple[TaskState, float]] = {}  # the state of each task, and since when
        self._seen: dict[Key, tuple[Progress, float]] = {}
        self._asleep: dict[str, float] = {}  # memory -> since when
        self._ended = Counter(
            "memory_server_tasks_ended_total",
            "Tasks that have ended, by final state and reason of a failure; OTHER for what has no name on the wire.",
            ["state", "reason"],
            registry=registry,
        )
        # Those that alerts are about begin at 0: the first failure would be no increase.
        for reason in _REASONS | {_UNNAMED}:
            self._ended.labels(TaskState.FAILED.value, reason)
        self._retrained = Counter(
            "memory_server_retrainings_total", "Retrainings of solvers that have ended.", ["state"], registry=registry
        )
        self._slept = Counter("memory_server_sleeps_total", "Sleeps that have ended.", ["state"], registry=registry)
        for renewed in (self._retrained, self._slept):
            renewed.labels(TaskState.FAILED.value)
        self._sleep_seconds = Histogram(
            "memory_server_sleep_seconds", "How long sleeps took.", registry=registry, buckets=_TASK_SECONDS
        )
        self._consolidated = Counter(
            "memory_server_consolidated_tasks_total", "Tasks that sleep has consolidated.", registry=registry
        )
        self._learn_seconds = Histogram(
            "memory_server_learn_seconds",
            "From the start of learning a task to the start of its commit.",
            registry=registry,
            buckets=_TASK_SECONDS,
        )
        self._commit_seconds = Histogram(
            "memory_server_commit_seconds", "How long commits took.", registry=registry, buckets=_COMMIT_SECONDS
        )
        self._commit_failures = Counter(
            "memory_server_commit_failures_total", "Tasks that were learned and not stored.", registry=registry
        )
        self._steps = Counter(
            "memory_server_training_steps_total",
            "Steps along the schedules of workers; a task with a time limit skips some of its schedule.",
            ["phase"],
            registry=registry,
        )
        self._step_seconds = Counter(
            "memory_server_training_seconds_total",
            "Time those steps took, pauses included.",
            ["phase"],
            registry=registry,
        )

    def changed(self, status: TaskStatus) -> None:
        """See `Observer.changed`."""
        record, now = status.record, self._clock()
        key = record.memory, record.task
        before, since = self._before.get(key, (record.state, now))
        if status.progress is not None:
            self._progressed(key, status.progress)
        if record.state is before:
            self._before[key] = before, since
        elif record.state.final:
            self._end(key, status, before, now - since)
        else:
            if record.state is TaskState.COMMITTING:
                self._learn_seconds.observe(now - since)
            self._before[key] = record.state, now

    def renewing(self, how: Renewal, memory: str, progress: Progress | None) -> None:
        """See `Observer.renewing`."""
        if progress is not None:
            self._progressed((memory, ""), progress)
        elif how is Renewal.SLEEP:
            self._asleep[memory] = self._clock()

    def renewed(self, how: Renewal, memory: str, ended: TaskState, consolidated: int) -> None:
        """See `Observer.renewed`."""
        self._seen.pop((memory, ""), None)
        if how is Renewal.SOLVER:
            self._retrained.labels(ended.value).inc()
        else:
            self._slept.labels(ended.value).inc()
            self._sleep_seconds.observe(self._clock() - self._asleep.pop(memory))
            self._consolidated.inc(consolidated)

    def _end(self, key: Key, status: TaskStatus, before: TaskState, seconds: float) -> None:
        self._before.pop(key, None)
        self._seen.pop(key, None)
        self._ended.labels(status.record.state.value, _reason(status)).inc()
        if before is TaskState.COMMITTING:
            self._commit_seconds.observe(seconds)
            self._commit_failures.inc(status.record.state is TaskState.FAILED)

    def _progressed(self, key: Key, progress: Progress) -> None:
        """Counts the steps since the last report of the same phase, and the time they took."""
        now = self._clock()
        last, then = self._seen.get(key, (progress, now))
        if last.phase == progress.phase and progress.step > last.step:
            self._steps.labels(progress.phase).inc(progress.step - last.step)
            self._step_seconds.labels(progress.phase).inc(now - then)
        self._seen[key] = progress, now


def _reason(status: TaskStatus) -> str:
    if status.record.state is not TaskState.FAILED:
        return ""
    return status.record.error_reason if status.record.error_reason in _REASONS else _UNNAMED
