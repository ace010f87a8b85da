"""What readers want, validated on its own, and what that is in one revision of a memory."""

import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from dgm_core.manifest import Label, Manifest
from dgm_core.memory import Blend
from memory_server.sampling.formats import AS_HELD, Format
from memory_server.sampling.plan import Blended, Plan, Reduced, Repeated, Source, segment_rows, sources_of
from memory_server.sampling.wanted import Wanted

AWAITED_ROWS = 1024
"""Up to so many rows are taken for a request that somebody waits for."""


@dataclass(frozen=True)
class Query(ABC):
    """What every reader says.

    Arguments:
        memory: its name.
        seed: makes the stream a function of the request; None for fresh randomness.
        start_at: the first batch to send.
        revision: 0 for the newest.
        format: in which x is given.
    """

    memory: str
    seed: int | None = None
    start_at: int = 0
    revision: int = 0
    format: Format = AS_HELD

    @property
    @abstractmethod
    def endless(self) -> bool:
        """Whether the stream has no end of its own."""

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether its rows are a function of its plan, seed included, to the bit."""

    @property
    @abstractmethod
    def awaited(self) -> bool:
        """Whether somebody is likely to wait for all of it: then it comes before streams that run ahead of a reader."""

    @property
    @abstractmethod
    def follows(self) -> bool:
        """Whether the stream turns to newer revisions, instead of being pinned to the one that it begins with."""

    @abstractmethod
    def plan(self, manifest: Manifest, seed: int) -> Plan | Repeated:
        """What to compute.

        Raises:
            EmptyMemory, UnknownTask, UnknownClass: this revision cannot serve the query.
        """

    @property
    def wanted(self) -> Wanted:
        """Which batches are sent."""
        return Wanted(self.start_at)

    def drawn_seed(self) -> int:
        """The seed, drawn at random where none was named."""
        return secrets.randbits(64) if self.seed is None else self.seed


@dataclass(frozen=True, kw_only=True)
class SampleQuery(Query):
    """Examples of what a memory learned; None and empty stand for "all" or "no limit".

    Arguments:
        classes, tasks: restrictions.
        n: rows in total.
        batch_size: rows of a batch.
        stride: only every stride-th batch from `start_at` on is sent.
        reduced: computed in reduced precision, where the device is faster so.
    """

    classes: tuple[Label, ...] = ()
    tasks: tuple[str, ...] = ()
    n: int | None = None
    batch_size: int = 128
    stride: int = 1
    reduced: bool = False

    @property
    def endless(self) -> bool:
        """Where no number of rows is named."""
        return self.n is None

    @property
    def exact(self) -> bool:
        """Where a seed was named."""
        return self.seed is not None

    @property
    def awaited(self) -> bool:
        """Where the rows are named and few."""
        return self.n is not None and self.n <= AWAITED_ROWS

    @property
    def follows(self) -> bool:
        """Unless a seed or a revision pins it."""
        return self.seed is None and self.revision == 0

    @property
    def wanted(self) -> Wanted:
        """See `Query.wanted`."""
        return Wanted(self.start_at, self.stride)

    def plan(self, manifest: Manifest, seed: int) -> Plan:
        """See `Query.plan`."""
        key = Reduced if self.reduced else str
        classes, sources = sources_of(manifest, self.memory, self.classes, self.tasks, key)
        return Plan(classes, sources, self.batch_size, self.n, seed, segment_rows(manifest.spec))


@dataclass(frozen=True, kw_only=True)
class BlendQuery(Query):
    """What lies between two tasks.

    Arguments:
        blend: of weight 0; its classes may be None.
        weights: that it is given in turn, each in [0, 1].
        n: rows of each.
    """

    blend: Blend
    weights: tuple[float, ...]
    n: int

    @property
    def endless(self) -> bool:
        """Never."""
        return False

    @property
    def exact(self) -> bool:
        """Always: every weight is given the same noise."""
        return True

    @property
    def awaited(self) -> bool:
        """Where there are few rows of all weights together."""
        return self.n * len(self.weights) <= AWAITED_ROWS

    @property
    def follows(self) -> bool:
        """Never: all of it is of one revision."""
        return False

    def plan(self, manifest: Manifest, seed: int) -> Repeated:
        """See `Query.plan`; its one class is the one whose noise is used."""
        asked = self.blend
        start = _End.of(manifest, self.memory, asked.start, asked.classes[0], "start_class") if asked.start else None
        end = _End.of(manifest, self.memory, asked.end, asked.classes[1], "end_class")
        blend = replace(asked, classes=(start.label if start else None, end.label))
        origins = tuple(each for each in (manifest.base, start.digest if start else "", end.digest) if each)
        ends = {1.0: None if asked.groups or asked.layers else end, 0.0: start}
        label, rows = (start or end).label, segment_rows(manifest.spec)

        def source(weight: float) -> Source:
            own = ends.get(weight)
            key = Blended(replace(blend, weight=weight), origins, own.digest if own else None)
            return Source(key, own.index if own else 0, 1)

        return Repeated(tuple(Plan((label,), ((source(w),),), self.n, self.n, seed, rows) for w in self.weights))


@dataclass(frozen=True)
class _End:
    """One class of one task: its expert's digest, the index that the expert knows it by, and its label."""

    digest: str
    index: int
    label: Label

    @classmethod
    def of(cls, manifest: Manifest, memory: str, task: str, wanted: Label | None, field: str) -> "_End":
        """The class that a field names, or the first. Raises EmptyMemory, UnknownTask, UnknownClass."""
        classes = () if wanted is None else (wanted,)
        (label, *_), _ = sources_of(manifest, memory, classes, (task,), field=field)
        experts = (expert for entry, expert in manifest.experts() if entry.task == task)
        expert = next(expert for expert in experts if label in expert.classes)
        return cls(expert.digest, expert.classes.index(label), label)
