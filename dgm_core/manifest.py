"""A revision of a memory as data: what it learned, and the immutable blobs and experts that stand for it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

from dgm_core.analysis import measured
from dgm_core.errors import CannotForget, CannotLearn

DTypeName = Literal["uint8", "float32"]
Label = int | str
Blobs = Mapping[str, bytes]
"""Content-addressed storage: SHA-256 in hexadecimal -> the bytes (safetensors) that it names."""


@dataclass(frozen=True)
class DataSpec:
    """Shape and dtype of one example x.

    Arguments:
        shape: (C, H, W) for an image with C in {1, 3} and sides of 8 to 256 pixels, or (F,) for a feature vector.
        dtype: "uint8" for images, "float32" for vectors.
    """

    shape: tuple[int, ...]
    dtype: DTypeName

    def __post_init__(self) -> None:
        if len(self.shape) == 3:
            channels, *sides = self.shape
            if channels not in (1, 3):
                raise CannotLearn(
                    "spec.shape",
                    f"an image has 1 or 3 channels, not {channels}; shapes are (C, H, W), so transpose (H, W, C)",
                )
            if not all(8 <= side <= 256 for side in sides):
                raise CannotLearn("spec.shape", f"an image is 8 to 256 pixels a side, not {sides}; resize it first")
        elif len(self.shape) == 1:
            if not 1 <= self.shape[0] <= 65_536:
                raise CannotLearn("spec.shape", f"a vector has 1 to 65536 features, not {self.shape[0]}")
        else:
            raise CannotLearn("spec.shape", f"x is an image (C, H, W) or a vector (F,), not of shape {self.shape}")
        if self.dtype != ("uint8" if self.is_image else "float32"):
            raise CannotLearn("spec.dtype", f"images are held as uint8 and vectors as float32, not {self.dtype}")

    @property
    def is_image(self) -> bool:
        """Whether x is an image (C, H, W) rather than a vector (F,)."""
        return len(self.shape) == 3

    @property
    def nbytes(self) -> int:
        """Bytes of one example."""
        size = 1 if self.dtype == "uint8" else 4
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True)
class ExpertEntry:
    """One expert in a manifest.

    Arguments:
        digest: content hash of the materialised expert; the sampler's key.
        classes: what it generates; its class index c counts in this order.
        examples: how many examples of each class it learned from: its share when a class has several experts.
    """

    digest: str
    classes: tuple[Label, ...]
    examples: tuple[int, ...]


@dataclass(frozen=True)
class TaskEntry:
    """One learned task in a manifest.

    Arguments:
        task: its name.
        blob: digest of the blob that holds it.
        experts: what it is sampled from.
        quality: reverse accuracy in [0, 1].
        steps: training steps of the generator; 0: it was fitted at once.
        seconds: that learning took.
        erasable: no later task may stand on it.
        reuses: names of the earlier tasks that it stands on (whose reserved weights or units it reads, whose vectors it
            weighs, whose style it started from): they cannot be forgotten before it.
        analysis: what was measured of it, as `Analysis` has it; empty of a kind that measures nothing.
        consolidated: its blob is a generator that other tasks share and that is retrained with them: it cannot be taken
            out again.
    """

    task: str
    blob: str
    experts: tuple[ExpertEntry, ...]
    quality: float
    steps: int
    seconds: float
    erasable: bool = False
    reuses: tuple[str, ...] = ()
    analysis: Mapping[str, object] = field(default_factory=dict)
    consolidated: bool = False

    @property
    def classes(self) -> tuple[Label, ...]:
        """The classes that this task taught."""
        return tuple(dict.fromkeys(label for expert in self.experts for label in expert.classes))

    def to_json(self) -> str:
        """Canonical text: the same entry gives the same characters."""
        return _canonical(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        return cls._of(json.loads(text))

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> Self:
        experts = tuple(
            ExpertEntry(each["digest"], tuple(each["classes"]), tuple(each["examples"])) for each in raw["experts"]
        )
        return cls(**{**raw, "experts": experts, "reuses": tuple(raw["reuses"])})


@dataclass(frozen=True)
class Learned:
    """All that survives of a task.

    Arguments:
        entry: for the manifest.
        shared: digests of the blobs that the memory shares, by role.
        blobs: the bytes of both.
        revision: of the memory on which it was learned.
        revised: entries of earlier tasks as they are from now on, of a kind that retrains what it holds.
    """

    entry: TaskEntry
    shared: Mapping[str, str]
    blobs: Blobs
    revision: int
    revised: tuple[TaskEntry, ...] = ()


@dataclass(frozen=True)
class Shared:
    """What a whole memory shares, made anew.

    Arguments:
        digests: by role, such as "solver".
        blobs: the bytes of all that is new.
        revised: entries of tasks as they are from now on, once sleep has consolidated them.
    """

    digests: Mapping[str, str]
    blobs: Blobs
    revised: tuple[TaskEntry, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A revision of a memory: class -> weighted experts, and the blobs that everything derives from.

    Arguments:
        kind: registered name of the memory kind.
        options: all options of the kind as text, defaults included.
        spec: of one example.
        revision: 0 while empty; grows by one with each commit.
        tasks: in the order of commits.
        shared: role -> digest of a blob that belongs to the whole memory, such as "solver".
    """

    kind: str
    options: Mapping[str, str]
    spec: DataSpec
    revision: int = 0
    tasks: tuple[TaskEntry, ...] = ()
    shared: Mapping[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Seed of the memory: free weights are initialised from (seed, task index)."""
        return int(self.options["seed"])

    @property
    def classes(self) -> tuple[Label, ...]:
        """All classes in the order in which they were first learned."""
        return tuple(dict.fromkeys(label for task in self.tasks for label in task.classes))

    @property
    def digests(self) -> tuple[str, ...]:
        """Every blob that this revision needs, each once."""
        base = [self.base] if self.base else []
        return tuple(dict.fromkeys([*base, *(task.blob for task in self.tasks), *self.shared.values()]))

    @property
    def base(self) -> str:
        """Digest of the frozen base that all tasks modulate; "" for a kind that has none."""
        return self.options.get("base", "")

    def entry(self, task: str) -> TaskEntry:
        """The entry of a task. Raises KeyError."""
        for entry in self.tasks:
            if entry.task == task:
                return entry
        raise KeyError(task)

    def experts(self) -> Iterator[tuple[TaskEntry, ExpertEntry]]:
        """All experts with the tasks that own them."""
        for task in self.tasks:
            for expert in task.experts:
                yield task, expert

    def commit(self, learned: Learned) -> "Manifest":
        """The next revision: this one and one more learned task.

        If others were committed while it was learned, what the memory shares knows only some of them: it is dropped,
        to be made anew (see `complete`).

        Raises:
            ValueError: the task is in it already, or what was measured of a task has not its form (see `measured`).
        """
        measured(learned.entry.analysis)
        if any(task.task == learned.entry.task for task in self.tasks):
            raise ValueError(f"task {learned.entry.task} is in this manifest already")
        shared = {**self.shared, **learned.shared} if learned.revision == self.revision else {}
        tasks = (*self._revised(learned.revised), learned.entry)
        return replace(self, revision=self.revision + 1, tasks=tasks, shared=shared)

    def dependents(self, task: str) -> tuple[str, ...]:
        """The later tasks that reuse what a task reserved, in the order of commits."""
        return tuple(later.task for later in self.tasks if task in later.reuses)

    def without(self, task: str) -> "Manifest":
        """The next revision: this one less a task, and less all that the memory shares, which has replayed the task.

        Raises:
            KeyError: it is not in this manifest.
            CannotForget: later tasks reuse what it reserved, or it is consolidated.
        """
        if self.entry(task).consolidated:
            raise CannotForget(task)
        if dependents := self.dependents(task):
            raise CannotForget(task, dependents)
        kept = tuple(known for known in self.tasks if known.task != task)
        return replace(self, revision=self.revision + 1, tasks=kept, shared={})

    def restored(self, shared: Shared) -> "Manifest":
        """The next revision: this one with what the memory shares made anew."""
        tasks = self._revised(shared.revised)
        return replace(self, revision=self.revision + 1, tasks=tasks, shared=dict(shared.digests))

    @property
    def complete(self) -> bool:
        """Whether all that the memory shares is there: it is made anew after something was forgotten."""
        return bool(self.shared) or not self.tasks

    def _revised(self, entries: Sequence[TaskEntry]) -> tuple[TaskEntry, ...]:
        """Its tasks, with these entries in place of those of the same names."""
        for entry in entries:
            measured(entry.analysis)
        by_name = {entry.task: entry for entry in entries}
        tasks = tuple(by_name.pop(task.task, task) for task in self.tasks)
        if by_name:
            raise ValueError(f"no task of this manifest is named {', '.join(by_name)}")
        return tasks

    def to_json(self) -> str:
        """Canonical text: the same manifest gives the same characters."""
        return _canonical(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        raw = json.loads(text)
        raw["spec"] = DataSpec(tuple(raw["spec"]["shape"]), raw["spec"]["dtype"])
        raw["tasks"] = tuple(map(TaskEntry._of, raw["tasks"]))
        return cls(**raw)


def _canonical(record: "TaskEntry | Manifest") -> str:
    return json.dumps(asdict(record), sort_keys=True, separators=(",", ":"))
