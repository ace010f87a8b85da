"""What a server tells about memories and tasks, as frozen snapshots."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from memory_client.analysis import TaskAnalysis

Label = int | str
"""A class. All classes of one memory are integers or all are strings."""

Layout = Literal["NCHW", "NHWC"]
"""Order of an image's axes: (C, H, W) or (H, W, C)."""

Precision = Literal["full", "reduced"]
"""What the server computes samples in: float32; or bfloat16, where its device has instructions for it."""

DTypeName = Literal["uint8", "float32"]
"""Element type of x: uint8 or float32 in [-1, 1] for images, float32 for vectors."""


Until = Literal["final", "consolidated"]
"""How long a task is watched: until its final state, or, once LEARNED, until it is consolidated."""


class TaskState(StrEnum):
    """Where a task stands. LEARNED, FAILED and CANCELLED are final."""

    QUEUED = "QUEUED"
    LEARNING = "LEARNING"
    COMMITTING = "COMMITTING"
    LEARNED = "LEARNED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Whether the task will never leave this state."""
        return self in (TaskState.LEARNED, TaskState.FAILED, TaskState.CANCELLED)


@dataclass(frozen=True)
class TaskProgress:
    """How far learning has come.

    Attributes:
        phase: what is being trained, such as "generator" or "solver".
        step: of this phase.
        steps: of this phase in total.
        fraction: of the whole task, in [0, 1].
        seconds_left: an estimate for the whole task; None while unknown.
        metrics: losses, mask occupancy and the like, by name.
        resumed_from_step: the step of the generator from which an earlier attempt at the task is gone on with; 0 if it
            began anew.
    """

    phase: str
    step: int
    steps: int
    fraction: float
    seconds_left: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    resumed_from_step: int = 0


@dataclass(frozen=True)
class Task:
    """One task of a memory, as it was when the server was asked.

    Attributes:
        memory: name of its memory.
        name: its own name.
        state: where it stands.
        classes: what it teaches, in the order in which they first occurred.
        count: examples in its data.
        waiting_for: what a QUEUED task waits for; else empty.
        queue_position: of a QUEUED task: 1 if it starts next, as far as can be foreseen; else None.
        starts_in: of a QUEUED task: estimated seconds until it starts; else None.
        progress: of a LEARNING task; else None.
        error: why a FAILED task failed and what to do; else empty.
        error_reason: the machine-readable why, such as "QUALITY_TOO_LOW"; may be empty.
        revision: first revision of the memory that holds it; None unless LEARNED.
        quality: reverse accuracy in [0, 1] on the held-out tenth of its data; None unless measured.
        consolidated: whether it is in a generator that tasks share and that is retrained with them, so that its samples
            may drift and it cannot be forgotten alone: at once where a kind retrains one generator for every task,
            after sleep where new tasks are held apart until then, else never.
        steps: training steps of the generator, once LEARNED; 0 where it was fitted at once.
        learn_seconds: wall-clock seconds, once LEARNED.
        created: when it was admitted, in UTC.
        finished: when it reached its final state, in UTC; else None.
    """

    memory: str
    name: str
    state: TaskState
    classes: tuple[Label, ...] = ()
    count: int = 0
    waiting_for: str = ""
    queue_position: int | None = None
    starts_in: float | None = None
    progress: TaskProgress | None = None
    error: str = ""
    error_reason: str = ""
    revision: int | None = None
    quality: float | None = None
    consolidated: bool = False
    steps: int = 0
    learn_seconds: float = 0.0
    created: datetime | None = None
    finished: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values that json.dumps takes; times are ISO 8601 texts."""
        return _plain_dict(asdict(self))


@dataclass(frozen=True)
class Sleep:
    """A memory that is to consolidate what it holds apart, or does so, as it was when the server said so.

    Attributes:
        waiting_for: what it waits for; empty once it sleeps.
        queue_position: while it waits: 1 if it starts next, as far as can be foreseen; else None.
        starts_in: while it waits: estimated seconds until it starts; else None.
        progress: once it sleeps and there is some; else None.
    """

    waiting_for: str = ""
    queue_position: int | None = None
    starts_in: float | None = None
    progress: TaskProgress | None = None


@dataclass(frozen=True)
class MemoryInfo:
    """A memory at its newest revision.

    Attributes:
        name: of the memory.
        kind: of the memory, such as "dgmw".
        options: of the kind as text, defaults included.
        shape: of one x: (C, H, W) for an image, (F,) for a vector.
        dtype: of x: "uint8" for images, "float32" for vectors.
        revision: grows with each learned or forgotten task; 0 while empty.
        classes: all classes, in the order in which they were first learned.
        bytes: size of everything that the newest revision needs.
        tasks: number of learned tasks.
        consolidated: number of these that are in a generator which tasks share; see `Task`.
        complete: False while the task solver is trained anew, because a task was forgotten.
        drowsy: whether it sleeps before it learns more.
        analysis: how each learned task uses the generator, in the order of commits; from `Memory.describe` alone.
    """

    name: str
    kind: str
    options: Mapping[str, str]
    shape: tuple[int, ...]
    dtype: DTypeName
    revision: int
    classes: tuple[Label, ...]
    bytes: int
    tasks: int
    complete: bool
    consolidated: int = 0
    drowsy: bool = False
    analysis: tuple[TaskAnalysis, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values that json.dumps takes."""
        return _plain_dict(asdict(self))


def _plain_dict(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(each) for key, each in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return _plain_dict(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, StrEnum) else value
