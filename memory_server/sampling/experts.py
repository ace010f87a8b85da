"""Experts and solvers on the device, loaded when first needed and dropped when memory is short."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch

from dgm_core.memories import load_memory
from dgm_core.memory import Blobs, Expert, GenerativeMemory, Manifest, Solver
from memory_server.errors import SolverRetraining, Superseded

Newest = Callable[[str], Manifest]
"""The newest revision of a named memory; raises UnknownMemory."""

_MEMORIES = 2


class ExpertCache:
    """Digest -> expert on the device, least recently used ones dropped beyond a number of bytes.

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
        self._experts: OrderedDict[str, Expert] = OrderedDict()
        self._solvers: OrderedDict[str, Solver] = OrderedDict()
        self._memories: OrderedDict[str, GenerativeMemory] = OrderedDict()
        self._loading = threading.Lock()
        self._lock = threading.Lock()

    def expert(self, memory: str, digest: str) -> Expert:
        """One expert of a memory, on the device. Raises UnknownMemory, or Superseded if it has just been forgotten."""
        found = self._recent(digest)
        if found is not None:
            return found
        with self._loading:
            return self._recent(digest) or self._keep(self._load(memory, digest).to(self.device))

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
        """Drops experts that no memory holds any more, and whatever was restored from revisions that may be gone."""
        with self._loading, self._lock:  # what is being loaded at this moment must not be kept after all
            for digest in experts:
                self._experts.pop(digest, None)
            self._solvers.clear()
            self._memories.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of all experts in the cache."""
        with self._lock:
            return sum(expert.nbytes for expert in self._experts.values())

    def _recent(self, digest: str) -> Expert | None:
        with self._lock:
            if digest in self._experts:
                self._experts.move_to_end(digest)
            return self._experts.get(digest)

    def _keep(self, expert: Expert) -> Expert:
        with self._lock:
            self._experts[expert.digest] = expert
            total = sum(kept.nbytes for kept in self._experts.values())
            while total > self._capacity and len(self._experts) > 1:
                total -= self._experts.popitem(last=False)[1].nbytes
        return expert

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


def _trim(cache: OrderedDict[str, Any]) -> None:
    while len(cache) > _MEMORIES:
        cache.popitem(last=False)
