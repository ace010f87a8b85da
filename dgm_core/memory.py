"""What a generative memory is: one shared generator, a few parameters per task, frozen experts to sample from.

    memory    = load_memory(manifest, blobs)        restore it from immutable blobs
    learned   = memory.learn(data, task="t1", ...)  train; returns what must be kept, changes nothing that is on disk
    manifest' = manifest.commit(learned)            the next revision
    expert    = memory.expert(digest)               a plain frozen generator, ready to serve

Learning differs by kind, serving does not: a sampler knows only manifests and experts.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

DTypeName = Literal["uint8", "float32"]
Label = int | str
Blobs = Mapping[str, bytes]
"""Content-addressed storage: SHA-256 in hexadecimal -> the bytes (safetensors) that it names."""


class CannotLearn(ValueError):
    """The data or the options do not suit this memory. `field` names what is wrong, the message says how to mend it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class QualityTooLow(RuntimeError):
    """The reverse accuracy of a task stayed below the caller's `min_quality`; nothing is kept."""


class CannotForget(ValueError):
    """Later tasks reuse what a task reserved, so that it cannot be erased before they are. `dependents` names them."""

    def __init__(self, task: str, dependents: tuple[str, ...]) -> None:
        later = f"task{'s' if len(dependents) > 1 else ''} {', '.join(dependents)}"
        super().__init__(
            f"task {task} cannot be forgotten: the later {later} reuse{'' if len(dependents) > 1 else 's'} what it "
            f"reserved; forget {later} first, newest first, and learn with erasable=True what may have to go alone"
        )
        self.dependents = dependents


class CannotBlend(ValueError):
    """This memory cannot blend what was asked for. `field` names what is wrong, the message says how to mend it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TrainingDiverged(RuntimeError):
    """A loss became NaN or infinite; nothing is kept."""


class Cancelled(Exception):
    """Raised by a `Report` callback to stop learning at once."""


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
                raise CannotLearn("spec.shape", f"an image has 1 or 3 channels, not {channels}; shapes are (C, H, W)")
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
class TaskData:
    """The raw data of one task; it lives only as long as `learn` runs.

    Arguments:
        x: uint8 (n, C, H, W) or float32 (n, F).
        y: int64 (n,), indices into `classes`.
        classes: the labels of this task, in the order in which they first occurred.
    """

    x: Tensor
    y: Tensor
    classes: tuple[Label, ...]

    def __len__(self) -> int:
        return self.x.shape[0]


@dataclass(frozen=True)
class Terms:
    """On what terms a task is learned; what is None is left to the recipe.

    Arguments:
        steps: training steps of the generator.
        seconds: wall-clock seconds for the whole task.
        min_quality: reverse accuracy in [0, 1] below which the task fails instead of committing.
        erasable: no later task may stand on this one, so that it can always be forgotten.
    """

    steps: int | None = None
    seconds: float | None = None
    min_quality: float | None = None
    erasable: bool = False


@dataclass(frozen=True)
class Progress:
    """A snapshot of learning: `fraction` of the whole task in [0, 1]; `seconds_left` is an estimate or None."""

    phase: str
    step: int
    steps: int
    fraction: float
    seconds_left: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


Report = Callable[[Progress], None]
"""Called between steps; may raise `Cancelled`."""


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
        steps: training steps of the generator.
        seconds: that learning took.
        erasable: no later task may stand on it.
        reuses: names of the earlier tasks that it stands on (whose reserved weights or units it reads, whose vectors it
            weighs, whose style it started from): they cannot be forgotten before it.
        analysis: what was measured of it; `Analysis` in JSON's types.
    """

    task: str
    blob: str
    experts: tuple[ExpertEntry, ...]
    quality: float
    steps: int
    seconds: float
    erasable: bool = False
    reuses: tuple[str, ...] = ()
    analysis: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[Label, ...]:
        """The classes that this task taught."""
        return tuple(dict.fromkeys(label for expert in self.experts for label in expert.classes))


@dataclass(frozen=True)
class Learned:
    """All that survives of a task.

    Arguments:
        entry: for the manifest.
        shared: digests of the blobs that the memory shares, by role.
        blobs: the bytes of both.
        revision: of the memory on which it was learned.
    """

    entry: TaskEntry
    shared: Mapping[str, str]
    blobs: Blobs
    revision: int


@dataclass(frozen=True)
class Blend:
    """A generator between two that a memory holds.

    Arguments:
        start: a task, or "" for the frozen base itself.
        end: a task.
        weight: 0 is `start`, 1 is `end`.
        groups: which parameters are blended; the others stay those of `start`. Empty: all. See `BLEND_GROUPS`.
        layers: in which layers, by the names that `analysis` gives; the others stay those of `start`. Empty: all.
        classes: one class of each; None takes the first that each learned. That of the base is ignored.
    """

    start: str
    end: str
    weight: float
    groups: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    classes: tuple[Label | None, Label | None] = (None, None)


BLEND_GROUPS = ("scale", "shift", "bias")
"""What a style consists of  [GANM sec. 4.2]."""


@dataclass(frozen=True)
class Shared:
    """What a whole memory shares, by role such as "solver": digests, and the bytes that they name."""

    digests: Mapping[str, str]
    blobs: Blobs


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

    def experts(self) -> Iterator[tuple[TaskEntry, ExpertEntry]]:
        """All experts with the tasks that own them."""
        for task in self.tasks:
            for expert in task.experts:
                yield task, expert

    def commit(self, learned: Learned) -> "Manifest":
        """The next revision: this one and one more learned task.

        If others were committed while it was learned, what the memory shares knows only some of them: it is dropped,
        to be made anew (see `complete`).
        """
        if any(task.task == learned.entry.task for task in self.tasks):
            raise ValueError(f"task {learned.entry.task} is in this manifest already")
        shared = {**self.shared, **learned.shared} if learned.revision == self.revision else {}
        return replace(self, revision=self.revision + 1, tasks=(*self.tasks, learned.entry), shared=shared)

    def dependents(self, task: str) -> tuple[str, ...]:
        """The later tasks that reuse what a task reserved, in the order of commits."""
        return tuple(later.task for later in self.tasks if task in later.reuses)

    def without(self, task: str) -> "Manifest":
        """The next revision: this one less a task, and less all that the memory shares, which has replayed the task.

        Raises:
            KeyError: it is not in this manifest.
            CannotForget: later tasks reuse what it reserved.
        """
        if all(known.task != task for known in self.tasks):
            raise KeyError(task)
        if dependents := self.dependents(task):
            raise CannotForget(task, dependents)
        kept = tuple(known for known in self.tasks if known.task != task)
        return replace(self, revision=self.revision + 1, tasks=kept, shared={})

    def restored(self, shared: Shared) -> "Manifest":
        """The next revision: this one with what the memory shares made anew."""
        return replace(self, revision=self.revision + 1, shared=dict(shared.digests))

    @property
    def complete(self) -> bool:
        """Whether all that the memory shares is there: it is made anew after something was forgotten."""
        return bool(self.shared) or not self.tasks

    def to_json(self) -> str:
        """Canonical text: the same manifest gives the same characters."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        raw = json.loads(text)
        raw["spec"] = DataSpec(tuple(raw["spec"]["shape"]), raw["spec"]["dtype"])
        raw["tasks"] = tuple(_task_entry(task) for task in raw["tasks"])
        return cls(**raw)


def _task_entry(raw: dict[str, Any]) -> TaskEntry:
    experts = tuple(
        ExpertEntry(expert["digest"], tuple(expert["classes"]), tuple(expert["examples"])) for expert in raw["experts"]
    )
    return TaskEntry(**{**raw, "experts": experts, "reuses": tuple(raw["reuses"])})


class Expert(ABC):
    """A frozen generator with its effective weights materialised: masks applied, normalisation folded.

    Attributes:
        digest: SHA-256 over its architecture and tensors; equals the digest in the manifest.
        classes: what it generates.
        noise_dim: length of one noise vector z ~ N(0, I).
        nbytes: memory that its tensors take.
    """

    digest: str
    classes: tuple[Label, ...]
    noise_dim: int
    nbytes: int

    @abstractmethod
    def generate(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples for noise z and class indices c: images in [-1, 1], vectors in the scale of their data."""

    @abstractmethod
    def to(self, device: torch.device) -> Self:
        """The same expert on another device."""


class Solver(ABC):
    """The memory's own classifier: a single head over all classes learned so far."""

    classes: tuple[Label, ...]

    @abstractmethod
    def probabilities(self, x: Tensor) -> Float[Tensor, "batch classes"]:
        """Class probabilities of x, uint8 (n, C, H, W) or float32 (n, F)."""


@runtime_checkable
class Bases(Protocol):
    """Where frozen bases are found."""

    def find(self, name: str, spec: DataSpec) -> tuple[str, bytes]:
        """Digest and bytes of a base that generates such data.

        Arguments:
            name: of a base, or its digest or at least eight digits of that; "" takes the shipped one that fits.

        Raises:
            CannotLearn: there is none of that name, or it does not fit; the message names both sides.
        """
        ...


class GenerativeMemory(ABC):
    """One memory kind; subclasses live in `memories/`, one file each, and are registered there.

    An instance is a memory at one revision. `learn` leaves it, its manifest and its blobs as they are and returns what
    the next revision adds, so that a failed or cancelled task needs no undoing.
    """

    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def options(cls, given: Mapping[str, str], spec: DataSpec, bases: Bases) -> dict[str, str]:
        """All options of this kind as text, defaults included; `given` always holds "seed".

        A kind that stands on a frozen base has an option "base": its digest, whatever name was given.

        Raises:
            CannotLearn: an option is unknown, its value is malformed or does not suit such data; names the valid ones.
        """

    @classmethod
    def side_by_side(cls, options: Mapping[str, str]) -> bool:  # noqa: ARG003 - most kinds cannot, whatever the options
        """Whether tasks of a memory of these options may be learned at one time and committed in any order."""
        return False

    @abstractmethod
    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        """Restores the memory of `manifest`; `blobs` serves every digest in `manifest.digests`."""

    @abstractmethod
    def learn(
        self,
        data: TaskData,
        *,
        task: str,
        terms: Terms,
        report: Report,
        device: torch.device,
    ) -> Learned:
        """Trains on one task and returns what must be kept of it.

        Raises:
            CannotLearn: the data does not suit this memory.
            QualityTooLow, TrainingDiverged: nothing is worth keeping.
            Cancelled: as raised by `report`.
        """

    @abstractmethod
    def restore(self, *, report: Report, device: torch.device) -> Shared:
        """Makes anew what the memory shares, such as its solver, from its experts alone: after a task was forgotten.

        Raises:
            Cancelled: as raised by `report`.
        """

    @abstractmethod
    def expert(self, digest: str) -> Expert:
        """Materialises one expert of the manifest, on the CPU.

        Raises:
            KeyError: no expert of this manifest has that digest.
            ValueError: what the blobs give does not have that digest: a blob was tampered with, or the version differs.
        """

    def blended(self, blend: Blend) -> Expert:  # noqa: ARG002 - for the kinds that can
        """A generator between two tasks, on the CPU; its one class is what `blend` says.

        Raises:
            CannotBlend: this kind has nothing to blend, or the memory does not hold what was asked for.
        """
        raise CannotBlend(
            "memory", f"a memory of kind {self.kind} has no styles to blend; make one with kind='gan_memory'"
        )

    @abstractmethod
    def solver(self) -> Solver:
        """The task solver of this revision. Raises KeyError while there is none (see `Manifest.complete`)."""
