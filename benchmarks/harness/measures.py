"""What is measured of each class in the space of the feature network, from the same seeded samples at any time."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from memory_client import Memory
from torch import Tensor

from dgm_core.evaluation.coverage import NEIGHBOURS, coverage, density
from dgm_core.evaluation.discriminant import recognised
from dgm_core.evaluation.distances import kernel_distance
from dgm_core.evaluation.features import FeatureNetwork
from memory_server.demo.datasets import Part

SAMPLE_SEED = 2026
FIGURES = ("reverse_accuracy", "kernel_distance", "coverage", "density")
TOLERANCE = 1e-6  # the same bytes, seen by another core or GPU


class ClassMeasures:
    """Measures classes of one memory against held-out real images.

    Arguments:
        memory: what is measured.
        space: makes the feature network, once it is needed.
        test: real images that nothing was trained on.
        images: at most so many real images of a class, and as many samples of it.
    """

    def __init__(self, memory: Memory, space: Callable[[], FeatureNetwork], test: Part, images: int) -> None:
        self._memory, self._space, self._test, self._images = memory, space, test, images
        self._network: FeatureNetwork | None = None
        self._samples: dict[int, tuple[Tensor, str]] = {}
        self._real: dict[int, Tensor] = {}

    def of(self, label: int, known: Sequence[int]) -> dict[str, Any]:
        """Figures of one class: all but the last are functions of its own samples and of those of `known`.

        Arguments:
            label: the class.
            known: the classes that it is told apart from, itself included.

        Returns:
            reverse_accuracy: share of its real images that a discriminant of samples recognises among `known`.
            kernel_distance, its standard_error, coverage, density: its samples against its real images.
            digest: SHA-256 of its samples' bytes.
        """
        generated, digest = self._generated(label)
        real = self._seen(label)
        distance = kernel_distance(real, generated, torch.Generator().manual_seed(SAMPLE_SEED))
        return {
            "reverse_accuracy": self._reverse_accuracy(real, label, known),
            "kernel_distance": distance.value,
            "standard_error": distance.standard_error,
            "coverage": coverage(real, generated, NEIGHBOURS),
            "density": density(real, generated, NEIGHBOURS),
            "digest": digest,
        }

    def reverse_accuracy(self, label: int, known: Sequence[int]) -> float:
        """Reverse accuracy alone, among other classes."""
        return self._reverse_accuracy(self._seen(label), label, known)

    def answered(self, label: int) -> float:
        """Share of a class's real images that the memory's own solver labels as that, among all that it knows."""
        guesses, _ = self._memory.classify(self._images_of(label))
        return float((guesses == label).mean())

    def _reverse_accuracy(self, real: Tensor, label: int, known: Sequence[int]) -> float:
        generated = [self._generated(each)[0] for each in known]
        return float(recognised(generated, real, list(known).index(label)).double().mean())

    def _images_of(self, label: int) -> np.ndarray:
        return self._test.of((label,)).x[: self._images]

    def _seen(self, label: int) -> Tensor:
        """Features of its real images."""
        if label not in self._real:
            self._real[label] = self._features(self._images_of(label))
        return self._real[label]

    def _generated(self, label: int) -> tuple[Tensor, str]:
        if label not in self._samples:
            n = min(self._images, int((self._test.y == label).sum()))
            x, _ = self._memory.sample(classes=[label], n=n, seed=SAMPLE_SEED)
            self._samples[label] = self._features(x), hashlib.sha256(x.tobytes()).hexdigest()
        return self._samples[label]

    def _features(self, x: np.ndarray) -> Tensor:
        self._network = self._network or self._space()
        return self._network.features(torch.from_numpy(x)).double().cpu()


def moved(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two measurements of a class that must be the same; empty if nothing does."""
    wrong = [] if then["digest"] == now["digest"] else ["the bytes of its seeded samples"]
    return wrong + [
        f"{name} ({then[name]:.6f}, now {now[name]:.6f})" for name in FIGURES if abs(then[name] - now[name]) > TOLERANCE
    ]
