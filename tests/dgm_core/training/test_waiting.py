"""A training step gives its device work and goes on: whatever makes a host wait for a number stays out of the loop."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dgm_core.manifest import DataSpec
from dgm_core.masking.ledger import Ledger
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.memories.dgma import DGMa
from dgm_core.memories.dgmw import DGMw
from dgm_core.networks.residual import Residual
from dgm_core.training.adversarial import AdversarialStep
from dgm_core.training.averaging import Average
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.classifying import Pool, train_classifier
from dgm_core.training.trainees import Masked
from tests.dgm_core.masking.shapes import write

SPEC = DataSpec((3, 8, 8), "uint8")
A = torch.ops.aten
NUMBERS = {A._local_scalar_dense.default, A.equal.default}
SIZES = {A.nonzero.default, A.masked_select.default}


class Waits(TorchDispatchMode):
    """Notes what would wait for a GPU: numbers that are read, and results whose size hangs on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func in {A.index.Tensor, A.index_put_.default} and any(
            isinstance(each, Tensor) and each.dtype == torch.bool for each in args[1]
        )
        if func in NUMBERS | SIZES or by_mask:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_what_makes_a_host_wait_is_noticed():
    x = torch.arange(4.0)
    with Waits() as waits:
        int((x > 1).sum()), bool(x.any()), x[x > 1], x.nonzero()
    assert len(waits.seen) == 4


@pytest.mark.parametrize("kind", [DGMw, DGMa])
@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_no_step_behind_gates_waits_for_the_device_be_they_soft_or_hard(kind, recipe):
    recipe = kind.recipes[recipe]
    architecture = Residual(SPEC, 8)
    network = architecture.generator(architecture.initial_widths(1), 2)
    ledger = Ledger(kind.gating)
    page, _ = write(ledger, network.topology, 0)
    ledger.append(page, network.topology)
    g = MaskedGenerator(network, network.topology, ledger, ledger.owned_by([]), recipe.s_max, torch.device("cpu"))
    trainee = Masked(g, recipe)
    step = AdversarialStep(trainee, architecture.discriminator(2, recipe.kernel, 4), recipe, 8)
    batches = BalancedBatches(torch.zeros(16, 3, 8, 8, dtype=torch.uint8), torch.arange(16) % 2, 2)
    for harden in (False, True):
        if harden:
            g.harden()
            average = Average(*trainee.averaged(), 0.999)
        for _ in range(4):  # the fast recipe penalises the critic in every fourth
            with Waits() as waits:
                step(batches)
                if harden:
                    average.update()
            assert not waits.seen


def test_no_step_of_a_classifier_waits_for_the_device():
    counts = []
    for steps in (2, 5):
        x = torch.zeros(16, 3, 16, 16, dtype=torch.uint8)
        with Waits() as waits:
            train_classifier(DataSpec((3, 16, 16), "uint8"), 2, [Pool(x, torch.arange(16) % 2)], steps, lambda n: n)
        counts.append(len(waits.seen))
    assert counts[0] == counts[1]
