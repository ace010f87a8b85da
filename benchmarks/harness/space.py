"""The space that kernel distances are measured in: a feature network that is trained on real images once, and kept."""

import os
from collections.abc import Callable
from pathlib import Path

import torch

from dgm_core.evaluation.features import FeatureNetwork, train_features
from harness.judge import tensors
from memory_server.demo.datasets import Part

SEED = 0


def network_of(real: Part, steps: int, file: Path, device: torch.device) -> FeatureNetwork:
    """The feature network that tells the classes of real images apart, which only a benchmark has all of.

    Arguments:
        real: what it is trained on.
        steps: of its training.
        file: where it is kept; the network that is there already is taken, whatever it was trained on.
        device: to train it on, and to use it on.
    """

    def trained() -> bytes:
        x, y = (tensor.to(device) for tensor in tensors(real))
        return train_features(x, y, len(y.unique()), SEED, steps).pack()

    return FeatureNetwork.unpack(kept(file, trained)).to(device)


def kept(file: Path, make: Callable[[], bytes]) -> bytes:
    """The bytes of a file, made if it is not there; a kill leaves no half of one, nor do two that make it at once."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(make())
        part.replace(file)
    return file.read_bytes()
