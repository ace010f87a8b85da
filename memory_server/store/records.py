"""What the catalog answers with: frozen records."""

from dataclasses import dataclass, field
from enum import StrEnum

from dgm_core.manifest import Label, Manifest


class TaskState(StrEnum):
    """The states of a task; the names are those on the wire."""

    QUEUED = "QUEUED"
    LEARNING = "LEARNING"
    COMMITTING = "COMMITTING"
    LEARNED = "LEARNED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Whether the task will never change again (unless it is sent anew)."""
        return self in (TaskState.LEARNED, TaskState.FAILED, TaskState.CANCELLED)

    @property
    def retryable(self) -> bool:
        """Whether nothing was kept, so that the same name may be sent again."""
        return self in (TaskState.FAILED, TaskState.CANCELLED)


@dataclass(frozen=True)
class MemoryRecord:
    """A memory at its newest revision; `bytes` are those of all blobs that this revision needs."""

    name: str
    manifest: Manifest
    bytes: int
    created_unix_ms: int


@dataclass(frozen=True)
class TaskRecord:
    """One task as the catalog knows it.

    Arguments:
        memory, task: its names.
        classes: in the order in which they first occurred in its data.
        count: rows of data.
        digest: of the data, as the client computed it.
        state: where it is.
        error: why it failed and what to do, if it did.
        error_reason: the same for machines, as on the wire; empty if the wire has no name for it.
        quality: reverse accuracy in [0, 1] once learned.
        steps, learn_seconds: what learning took.
        revision: the first revision that holds it, 0 while none does.
        consolidated: whether it is in a generator that tasks share, and which is retrained with them.
        created_unix_ms, finished_unix_ms: admission, and entry into a final state (0 before).
    """

    memory: str
    task: str
    classes: tuple[Label, ...]
    count: int
    digest: str
    state: TaskState = TaskState.QUEUED
    error: str = ""
    error_reason: str = ""
    quality: float | None = None
    steps: int = 0
    learn_seconds: float = 0.0
    revision: int = 0
    consolidated: bool = False
    created_unix_ms: int = 0
    finished_unix_ms: int = 0


@dataclass(frozen=True)
class Portable:
    """All that makes up a memory at one revision, but for its name and the content of its blobs.

    Arguments:
        manifest: the revision.
        tasks: the records of its tasks, in the order of admission.
        blobs: (digest, bytes) of each that the manifest names.
    """

    manifest: Manifest
    tasks: tuple[TaskRecord, ...]
    blobs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Forgotten:
    """What a memory is once something of it has gone, and what only that needed.

    What goes is a task that is forgotten, or what a generator was before it was retrained.

    Arguments:
        manifest: the newest revision; the one that was there if the task had not been learned.
        revisions: all that are left, in order.
        unused: digests of blobs that nothing refers to any more.
        experts: digests of experts that no memory holds any more.
        undeleted: why a blob of `unused` is on the disk still; empty if none is.
    """

    manifest: Manifest
    revisions: tuple[int, ...]
    unused: frozenset[str]
    experts: frozenset[str]
    undeleted: str = ""


@dataclass(frozen=True)
class Deleted:
    """What only a memory needed that is deleted.

    Arguments:
        unused: digests of blobs that nothing refers to any more.
        experts: digests of experts that no memory holds any more.
        memories: names of all that are left, in order.
        undeleted: why a blob of `unused` is on the disk still; empty if none is.
    """

    unused: frozenset[str]
    experts: frozenset[str]
    memories: tuple[str, ...]
    undeleted: str = ""


@dataclass(frozen=True)
class Restored:
    """A revision in which what a memory shares is made anew.

    Arguments:
        manifest: the new revision.
        unused: digests of blobs that nothing refers to any more.
        forgotten: what went with it, if entries of tasks were revised.
    """

    manifest: Manifest
    unused: frozenset[str]
    forgotten: Forgotten | None = None


@dataclass(frozen=True)
class Committed(Restored):
    """A revision that holds one more task; `task` is its record as it is now."""

    task: TaskRecord = field(kw_only=True)


@dataclass(frozen=True)
class Census:
    """How much a catalog holds.

    Arguments:
        memories: how many there are.
        blobs: how many there are.
        bytes: of all blobs.
        commits: memory -> when its newest task was learned, milliseconds since 1970; the latest first.
    """

    memories: int
    blobs: int
    bytes: int
    commits: dict[str, int]
