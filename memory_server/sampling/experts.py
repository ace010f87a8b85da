"""Experts and solvers on the device, loaded when first needed and dropped when memory is short."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import torch

from dgm_core.bundles import Bundle
from dgm_core.errors import CannotBlend
from dgm_core.manifest import Blobs, Manifest
from dgm_core.memories import load_memory
from dgm_core.memory import Expert, GenerativeMemory, Solver
from memory_server.errors import BadRequest, SolverRetraining, Superseded
from memory_server.sampling.plan import Blended, ExpertKey

Newest = Callable[[str], Manifest]
"""The newest revision of a named memory; raises UnknownMemory."""

_MEMORIES = 2
_BUNDLES = 4
"""Each holds the weights of a few experts once more; readers mostly want the same ones again."""
_BLENDS = 8
"""Blends that are kept: enough for a few readers whose large n takes many tiles of one."""


class ExpertCache:
    """Key -> expert on the device, least recently used ones dropped beyond a number of bytes.

    Calls may come from any thread; loading is done by one at a time. Experts are loaded through the newest revision of
    their memory, which holds every expert that an older one has.

    Arguments:
        newest: finds manifests.
        blobs: what experts derive from.
        device: where they compute.
        capacity: bytes of experts to keep; the last one used is kept in any case.
    """

    def __init__(self, newest: Newest, blobs: Blobs, device: torch.device, capacity: int) -> None:
        self.device = device
        self._newest = newest
        self._blobs = blobs
        self._capacity = capacity
        self._experts: OrderedDict[ExpertKey, Expert] = OrderedDict()
        self._bundles: OrderedDict[tuple[ExpertKey, ...], Bundle] = OrderedDict()
        self._solvers: OrderedDict[str, Solver] = OrderedDict()
        self._memories: OrderedDict[str, GenerativeMemory] = OrderedDict()
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

    def signature(self, key: ExpertKey) -> Hashable | None:
        """What an expert of a memory has to share with another one to be bundled with it; None if it is not here."""
        with self._lock:
            expert = self._experts.get(key)
        return None if expert is None else expert.signature

    def bundle(self, experts: Mapping[ExpertKey, Expert]) -> Bundle:
        """Experts of one memory and one signature as one, kept for the next time if all of them are."""
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
                _trim(self._bundles, _BUNDLES)
        return made

    def solver(self, memory: str) -> tuple[Manifest, Solver]:
        """The newest revision and its task solver. Raises UnknownMemory, SolverRetraining.

        The revision must have learned something.
        """
        with self._loading:
            manifest = self._newest(memory)
            key = manifest.to_json()
            if key not in self._solvers:
                try:
                    self._solvers[key] = self._memory(manifest).solver()
                except KeyError:
                    if manifest.complete and self._newest(memory) == manifest:
                        raise
                    raise SolverRetraining(memory) from None
                _trim(self._solvers)
            return manifest, self._solvers[key]

    def forget(self, experts: Iterable[str]) -> None:
        """Drops experts that no memory holds any more, and whatever was made from what may be gone."""
        with self._loading, self._lock:  # what is being loaded at this moment must not be kept after all
            for digest in experts:
                self._experts.pop(digest, None)
            for blend in self._blends():
                del self._experts[blend]
            self._bundles.clear()
            self._solvers.clear()
            self._memories.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of all experts in the cache, bundled ones counted again."""
        with self._lock:
            return _size(self._experts.values()) + _size(self._bundles.values())

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
            total = _size(self._experts.values())
            while total > self._capacity and len(self._experts) > 1:
                total -= self._experts.popitem(last=False)[1].nbytes
        return expert

    def _blends(self) -> list[Blended]:
        return [key for key in self._experts if isinstance(key, Blended)]

    def _made(self, memory: str, key: ExpertKey) -> Expert:
        return self._blend(memory, key) if isinstance(key, Blended) else self._load(memory, key)

    def _blend(self, memory: str, blended: Blended) -> Expert:
        manifest = self._newest(memory)
        if not {manifest.base, *(expert.digest for _, expert in manifest.experts())}.issuperset(blended.origins):
            raise Superseded(memory)
        held = self._memory(manifest)
        try:
            blend = held.blended(blended.blend)  # is refused at an end, too, if it cannot be
            return blend if blended.own is None else held.expert(blended.own)
        except CannotBlend as error:
            if error.field == "memory":
                raise
            raise BadRequest(error.field, str(error)) from error

    def _load(self, memory: str, digest: str) -> Expert:
        try:
            return self._memory(self._newest(memory)).expert(digest)
        except KeyError:
            if any(expert.digest == digest for _, expert in self._newest(memory).experts()):
                raise
            raise Superseded(memory) from None

    def _memory(self, manifest: Manifest) -> GenerativeMemory:
        key = manifest.to_json()
        if key not in self._memories:
            self._memories[key] = load_memory(manifest, self._blobs)
            _trim(self._memories)
        self._memories.move_to_end(key)
        return self._memories[key]


def _size(kept: Iterable[Expert | Bundle]) -> int:
    return sum(each.nbytes for each in kept)


def _trim(cache: OrderedDict[Any, Any], most: int = _MEMORIES) -> None:
    while len(cache) > most:
        cache.popitem(last=False)
