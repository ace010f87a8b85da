import subprocess
import sys

import torch
from torch import nn

from dgm_core.networks.outlines import outlined

WITHOUT_A_COMPILER = """
import sys
import torch
from torch import nn
from dgm_core.networks.outlines import outlined
with outlined():
    nn.Embedding(3, 4)
    nn.init.normal_(nn.Linear(2, 2).weight)
sys.exit("torch._dynamo" in sys.modules)
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


def test_an_outline_does_not_load_a_compiler():
    done = subprocess.run([sys.executable, "-c", WITHOUT_A_COMPILER], check=False)
    assert done.returncode == 0
