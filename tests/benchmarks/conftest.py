"""The benchmarks are scripts: what they share is found beside them, as when one is run."""

import sys
from pathlib import Path

import pytest
import torch

from dgm_core.manifest import DataSpec
from dgm_core.style.base import Base
from dgm_core.training.bases import design_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

sys.path.insert(0, str(BENCHMARKS))


class OneBase:
    """A library of one base with random weights, for digits of 8 × 8."""

    def __init__(self):
        spec = DataSpec((1, 8, 8), "uint8")
        design = design_of(spec, "dcgan", width=4, noise=8)
        torch.manual_seed(0)
        self.base = Base.of("tiny", design, design.generator(spec, 1), design.discriminator(spec, 1), {})

    def find(self, name, spec):
        return self.base.digest, self.base.blob


@pytest.fixture
def one_base(monkeypatch):
    """Takes the place of the shipped bases."""
    from harness import schooling

    library = OneBase()
    monkeypatch.setattr(schooling, "SHIPPED", library)
    return library
