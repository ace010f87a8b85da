"""What a generative memory is: one shared generator, a few parameters per task, frozen experts to sample from.

    memory    = load_memory(manifest, blobs)        restore it from immutable blobs
    learned   = memory.learn(data, task="t1", ...)  train; returns what must be kept, changes nothing that is on disk
    manifest' = manifest.commit(learned)            the next revision
    expert    = memory.expert(digest)               a plain frozen generator, ready to serve

Learning differs by kind, serving does not: a sampler knows only manifests and experts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dgm_core.checkpoints import NONE, Checkpoints
from dgm_core.errors import CannotBlend, CannotSleep
from dgm_core.manifest import Blobs, DataSpec, Label, Learned, Manifest, Shared, TaskEntry


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
        steps: training steps of the generator, and the most of the task solver, which takes at least
            `clock.FEWEST_STEPS`; without meaning for a generator that is fitted at once.
        seconds: wall-clock seconds for the whole task.
        min_quality: reverse accuracy in [0, 1] below which the task fails instead of committing.
        erasable: no later task may stand on this one, so that it can always be forgotten.
        revises: name of the learned task that this one repeats; empty: it is a task of its own.
    """

    steps: int | None = None
    seconds: float | None = None
    min_quality: float | None = None
    erasable: bool = False
    revises: str = ""


@dataclass(frozen=True)
class Progress:
    """A snapshot of learning.

    Arguments:
        phase: of the task.
        step, steps: of the phase.
        fraction: of the whole task, in [0, 1].
        seconds_left: an estimate, or None.
        metrics: losses and the like.
        resumed_from: the step of the generator (of its `steps`) at which an earlier attempt was taken up; 0: none was.
    """

    phase: str
    step: int
    steps: int
    fraction: float
    seconds_left: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    resumed_from: int = 0


Report = Callable[[Progress], None]
"""Called between steps; may raise `Cancelled`."""


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


class Expert(ABC):
    """A frozen generator with its effective weights materialised: masks applied, normalisation folded.

    Attributes:
        digest: SHA-256 over its architecture and tensors; equals the digest in the manifest.
        classes: what it generates.
        noise_dim: length of one noise vector z ~ N(0, I).
        nbytes: memory that its tensors take.
        network: what generates, from (z, c).
        signature: of experts of one memory, equal for those whose networks differ in the values of their tensors alone.
    """

    digest: str
    classes: tuple[Label, ...]
    noise_dim: int
    nbytes: int
    network: nn.Module
    signature: Hashable

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
    exact: ClassVar[bool] = True
    """Whether what is sampled of a learned task never changes by a bit: not so where a generator is retrained."""
    sleeps: ClassVar[bool] = False
    """Whether it holds new tasks apart until it sleeps, and `consolidated` ones no longer."""
    repeats: ClassVar[bool] = False
    """Whether a task may repeat a learned one; see `Terms.revises`."""
    vectors: ClassVar[bool] = True
    """Whether it learns feature vectors as well as images."""

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

    @classmethod
    def drowsy(cls, manifest: Manifest) -> bool:  # noqa: ARG003 - most kinds never sleep
        """Whether a memory should sleep before it learns another task."""
        return False

    @classmethod
    def awake(cls, manifest: Manifest) -> tuple[TaskEntry, ...]:
        """The tasks that sleep would consolidate: all that a kind which sleeps holds apart, but for erasable ones."""
        return tuple(task for task in manifest.tasks if cls.sleeps and not (task.consolidated or task.erasable))

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
        checkpoints: Checkpoints = NONE,
    ) -> Learned:
        """Trains on one task and returns what must be kept of it.

        Arguments:
            checkpoints: of this task with the same data and terms upon the same revision. On the CPU of one machine a
                training that was broken off and taken up again gives the same bits.

        Raises:
            CannotLearn: the data does not suit this memory.
            QualityTooLow, TrainingDiverged: nothing is worth keeping.
            Cancelled: as raised by `report` or `checkpoints`.
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

    def sleep(self, *, report: Report, device: torch.device) -> Shared:  # noqa: ARG002 - for the kinds that do
        """Consolidates what is held apart, and trains the solver anew  [DGDMN sec. 3.2].

        Raises:
            CannotSleep: this kind holds nothing apart, or nothing is left to consolidate.
            TrainingDiverged: the memory stays as it is.
            Cancelled: as raised by `report`.
        """
        raise CannotSleep(
            f"a memory of kind {self.kind} has nothing to consolidate: every task is learned for good at once; only a "
            "kind that holds new tasks apart sleeps (docs/kinds.md)"
        )

    @abstractmethod
    def solver(self, task: str | None = None) -> Solver:
        """The task solver of this revision: one head over all classes, or over those of one task if that is named.

        Raises:
            KeyError: while there is none (see `Manifest.complete`), or this revision has no such task.
        """
