"""What readers want, validated on its own, and what that is in one revision of a memory."""

import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from dgm_core.memory import Blend, Label, Manifest
from memory_server.sampling.plan import Blended, Plan, Repeated, Source, segment_rows, sources_of


@dataclass(frozen=True)
class Query(ABC):
    """What every reader says.

    Arguments:
        memory: its name.
        seed: makes the stream a function of the request; None for fresh randomness.
        start_at: the first batch to send.
        revision: 0 for the newest.
        dtype: "uint8" or "float32"; None for uint8 images and float32 vectors.
    """

    memory: str
    seed: int | None = None
    start_at: int = 0
    revision: int = 0
    dtype: str | None = None

    @property
    @abstractmethod
    def endless(self) -> bool:
        """Whether the stream has no end of its own."""

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
    """

    classes: tuple[Label, ...] = ()
    tasks: tuple[str, ...] = ()
    n: int | None = None
    batch_size: int = 128

    @property
    def endless(self) -> bool:
        """Where no number of rows is named."""
        return self.n is None

    @property
    def follows(self) -> bool:
        """Unless a seed or a revision pins it."""
        return self.seed is None and self.revision == 0

    def plan(self, manifest: Manifest, seed: int) -> Plan:
        """See `Query.plan`."""
        classes, sources = sources_of(manifest, self.memory, self.classes, self.tasks)
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
    def follows(self) -> bool:
        """Never: all of it is of one revision."""
        return False

    def plan(self, manifest: Manifest, seed: int) -> Repeated:
        """See `Query.plan`; its one class is the one whose noise is used."""
        asked = self.blend
        start, first = self._side(manifest, asked.start, asked.classes[0]) if asked.start else (manifest.base, None)
        end, last = self._side(manifest, asked.end, asked.classes[1])
        blend = replace(asked, classes=(first, last))
        origins = tuple(dict.fromkeys(filter(None, (manifest.base, start, end))))
        sources = [Source(Blended(replace(blend, weight=weight), origins), 0, 1) for weight in self.weights]
        label, rows = last if first is None else first, segment_rows(manifest.spec)
        return Repeated(tuple(Plan((label,), ((source,),), self.n, self.n, seed, rows) for source in sources))

    def _side(self, manifest: Manifest, task: str, label: Label | None) -> tuple[str, Label]:
        """The digest of a task's expert for a class, and the class: the one of that name, or the first."""
        (chosen, *_), _ = sources_of(manifest, self.memory, () if label is None else (label,), (task,))
        of_task = (expert for entry, expert in manifest.experts() if entry.task == task)
        return next(expert.digest for expert in of_task if chosen in expert.classes), chosen
