"""Experts and solvers on the device, loaded when first needed and dropped when memory is short."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

import numpy as np
import torch

from dgm_core.bundles import Bundle
from dgm_core.errors import CannotBlend
from dgm_core.manifest import Blobs, Manifest
from dgm_core.memories import load_memory
from dgm_core.memory import Expert, GenerativeMemory, Solver
from dgm_core.precision import ReducedExpert, has_bfloat16
from memory_server.errors import BadRequest, SolverRetraining, Superseded, UnknownTask
from memory_server.sampling.plan import Blended, ExpertKey, Reduced

K = TypeVar("K")
T = TypeVar("T")
Newest = Callable[[str], Manifest]
"""The newest revision of a named memory; raises UnknownMemory."""

_MEMORIES = 2
_SOLVERS = 16
"""A reader that knows the tasks of its examples asks for those of several in turn."""
_BUNDLES = 4
"""Each holds the weights of a few experts once more; readers mostly want the same ones again. Where there is no room
for one it is made anew for each pass, which is then no faster than its experts alone."""
_BLENDS = 8
"""Blends that are kept: enough for a few readers whose large n takes many tiles of one."""


class ExpertCache:
    """Key -> expert on the device, some dropped beyond a number of bytes: bundles first, then experts by chance.

    A stream wants the experts of its tasks in turn. If they do not quite fit, the one that was used least recently is
    the one that is wanted next: to drop that one would be to load every expert in every turn. To drop the one that came
    last would keep for good those that nobody wants any more. By chance, most of a turn is found here, and what nobody
    wants goes as others come.

    Calls may come from any thread; loading is done by one at a time. Experts are loaded through the newest revision of
    their memory, which holds every expert that an older one has.

    Arguments:
        newest: finds manifests.
        blobs: what experts derive from.
        device: where they compute.
        capacity: bytes of experts and bundles to keep; the expert that came last is kept in any case.
    """

    def __init__(self, newest: Newest, blobs: Blobs, device: torch.device, capacity: int) -> None:
        self.device = device
        self.capacity = capacity
        self._newest = newest
        self._experts: OrderedDict[ExpertKey, Expert] = OrderedDict()  # by their last use, which matters for blends
        self._bundles: OrderedDict[tuple[ExpertKey, ...], Bundle] = OrderedDict()
        self._random = np.random.default_rng(0)
        self._solvers: _Recent[tuple[Manifest, str | None], Solver] = _Recent(
            lambda wanted: self._memories.of(wanted[0]).solver(wanted[1]), _SOLVERS
        )
        self._memories: _Recent[Manifest, GenerativeMemory] = _Recent(
            lambda manifest: load_memory(manifest, blobs), _MEMORIES
        )
        self._loading = threading.Lock()
        self._lock = threading.Lock()

    def expert(self, memory: str, key: ExpertKey) -> Expert:
        """One expert of a memory, or between two of it, on the device.

        Raises:
            UnknownMemory: there is no such memory.
            Superseded: it, or what it lies between, has just been forgotten.
            CannotBlend, BadRequest: the kind cannot blend anything, or not this.
        """
        found = self._recent(key)
        if found is not None:
            return found
        with self._loading:
            return self._recent(key) or self._keep(key, self._made(memory, key).to(self.device))

    def holds(self, key: ExpertKey) -> bool:
        """Whether an expert is on the device."""
        with self._lock:
            return key in self._experts

    def signature(self, key: ExpertKey) -> Hashable | None:
        """What an expert of a memory has to share with another one to be bundled with it; None if it is not here."""
        with self._lock:
            expert = self._experts.get(key)
        return None if expert is None else expert.signature

    def bundle(self, experts: Mapping[ExpertKey, Expert]) -> Bundle:
        """Experts of one memory and one signature as one, kept for the next time if all of them are and it has room."""
        key = tuple(experts)
        with self._lock:
            found = self._bundles.get(key)
            if found is not None:
                self._bundles.move_to_end(key)
                return found
        made = Bundle(list(experts.values()))
        with self._lock:
            if self._experts.keys() >= experts.keys():  # none of them was forgotten in the meantime
                self._bundles[key] = made
                self._drop_bundles()
        return made

    def solver(self, memory: str, task: str | None = None) -> tuple[Manifest, Solver]:
        """The newest revision, which must have learned something, and its task solver, or that of one task.

        Raises:
            UnknownMemory, UnknownTask: there is no such memory, or it has not learned that task.
            SolverRetraining: the solver is not there again yet.
        """
        with self._loading:
            manifest = self._newest(memory)
            known = [entry.task for entry in manifest.tasks]
            if task is not None and task not in known:
                raise UnknownTask(memory, task, known)
            try:
                return manifest, self._solvers.of((manifest, task))
            except KeyError:
                if manifest.complete and self._newest(memory) == manifest:
                    raise
                raise SolverRetraining(memory) from None

    def forget(self, experts: Iterable[str]) -> None:
        """Drops experts that no memory holds any more, and whatever was made from what may be gone."""
        with self._loading, self._lock:  # what is being loaded at this moment must not be kept after all
            for digest in experts:
                for key in (digest, Reduced(digest)):
                    self._experts.pop(key, None)
            for blend in self._blends():
                del self._experts[blend]
            self._bundles.clear()
            self._solvers.clear()
            self._memories.clear()

    @property
    def count(self) -> int:
        """How many experts are in the cache."""
        with self._lock:
            return len(self._experts)

    @property
    def nbytes(self) -> int:
        """Bytes of all experts in the cache, bundled ones counted again."""
        with self._lock:
            return self._size()

    def _recent(self, key: ExpertKey) -> Expert | None:
        with self._lock:
            if key in self._experts:
                self._experts.move_to_end(key)
            return self._experts.get(key)

    def _keep(self, key: ExpertKey, expert: Expert) -> Expert:
        with self._lock:
            self._experts[key] = expert
            for blend in self._blends()[:-_BLENDS]:
                del self._experts[blend]
            self._drop_bundles()  # all of them before any expert: no bundle outlives one that it is of
            excess = self._size() - self.capacity
            while excess > 0 and len(self._experts) > 1:
                others = [other for other in self._experts if other != key]
                excess -= self._experts.pop(others[self._random.integers(len(others))]).nbytes
        return expert

    def _drop_bundles(self) -> None:
        while self._bundles and (len(self._bundles) > _BUNDLES or self._size() > self.capacity):
            self._bundles.popitem(last=False)

    def _size(self) -> int:
        kept: list[Expert | Bundle] = [*self._experts.values(), *self._bundles.values()]
        return sum(each.nbytes for each in kept)

    def _blends(self) -> list[Blended]:
        return [key for key in self._experts if isinstance(key, Blended)]

    def _made(self, memory: str, key: ExpertKey) -> Expert:
        if isinstance(key, Blended):
            return self._blend(memory, key)
        if isinstance(key, str):
            return self._load(memory, key)
        expert = self._load(memory, key.digest)
        return ReducedExpert(expert) if has_bfloat16(self.device) else expert

    def _blend(self, memory: str, blended: Blended) -> Expert:
        manifest = self._newest(memory)
        if not {manifest.base, *(expert.digest for _, expert in manifest.experts())}.issuperset(blended.origins):
            raise Superseded(memory)
        held = self._memories.of(manifest)
        try:
            blend = held.blended(blended.blend)  # is refused at an end, too, if it cannot be
            return blend if blended.own is None else held.expert(blended.own)
        except CannotBlend as error:
            if error.field == "memory":
                raise
            raise BadRequest(error.field, str(error)) from error

    def _load(self, memory: str, digest: str) -> Expert:
        try:
            return self._memories.of(self._newest(memory)).expert(digest)
        except KeyError:
            if any(expert.digest == digest for _, expert in self._newest(memory).experts()):
                raise
            raise Superseded(memory) from None


class _Recent(Generic[K, T]):
    """What the manifests that were asked for last stand for, or what is named along with them.

    They are found by comparing, which tells different revisions apart at once and is nothing for one and the same; to
    hash a manifest would take as long as to write it down.

    Arguments:
        make: makes it.
        most: so many are kept.
    """

    def __init__(self, make: Callable[[K], T], most: int) -> None:
        self._make = make
        self._most = most
        self._kept: list[tuple[K, T]] = []

    def of(self, wanted: K) -> T:
        """What a manifest stands for. Raises whatever making it raises."""
        found = next((each for each in self._kept if each[0] == wanted), None) or (wanted, self._make(wanted))
        self._kept = [*(each for each in self._kept if each is not found), found][-self._most :]
        return found[1]

    def clear(self) -> None:
        """Lets go of all of it."""
        self._kept = []
