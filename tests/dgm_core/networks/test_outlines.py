import subprocess
import sys

import pytest
import torch
from torch import nn

from dgm_core.networks.outlines import outlined

LOADED = """
import sys
from dgm_core.manifest import DataSpec
from dgm_core.memories import load_memory, new_manifest
from dgm_core.style.library import Library
spec, bases = DataSpec((3, 32, 32), "uint8"), Library()
digest, base = bases.find("", spec)
memory = load_memory(new_manifest(sys.argv[1], {}, spec, 0, bases), {digest: base})
if hasattr(memory, "architecture"):
    memory.architecture.topology((4, 4, 4))
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_an_outline_has_the_shapes_and_no_values():
    with outlined():
        layer, other = nn.Embedding(3, 4), nn.Conv2d(1, 2, 3)
    assert layer.weight.is_meta and other.weight.is_meta
    assert layer.weight.shape == (3, 4) and other.weight.shape == (2, 1, 3, 3)


def test_outside_of_it_weights_are_drawn_again():
    with outlined():
        nn.Embedding(3, 4)
    torch.manual_seed(0)
    assert nn.Embedding(3, 4).weight.std() > 0


@pytest.mark.parametrize("kind", ["dgmw", "gan_memory"])
def test_a_memory_is_loaded_without_a_compiler(kind):
    done = subprocess.run([sys.executable, "-c", LOADED, kind], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
