from itertools import pairwise

import pytest
import torch

from dgm_core.manifest import DataSpec
from dgm_core.masking.ledger import Ledger
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.memories.dgma import DGMa
from dgm_core.memories.dgmw import DGMw
from dgm_core.networks.chains import Dcgan
from dgm_core.training.trainees import Masked


def slopes(kind, recipe, examples):
    """Of every step until the gates of a first task of one class are hard, and of how many steps in all."""
    recipe = kind.recipes[recipe]
    network = Dcgan(DataSpec((1, 8, 8), "uint8"), 4).generator((4, 2), 1)
    ledger = Ledger(kind.gating)
    ledger.grow(network.topology)
    g = MaskedGenerator(network, network.topology, ledger, ledger.owned_by([]), recipe.s_max, torch.device("cpu"))
    trainee, seen = Masked(g, recipe), []
    wanted = recipe.steps(examples, 1)
    for at in range(wanted):
        trainee.enter(at, wanted)
        if trainee.settled:
            break
        seen.append(g.slope)
    return seen, wanted


@pytest.mark.parametrize("kind", [DGMw, DGMa])
def test_the_paper_recipe_anneals_within_epochs_that_are_passes_over_the_data(kind):
    examples = 64 * 25
    seen, wanted = slopes(kind, "paper", examples)
    assert len(seen) == pytest.approx(0.6 * wanted, abs=1)
    begins = [step for step, (before, now) in enumerate(pairwise(seen), 1) if before != now]
    if kind is DGMw:  # rises within an epoch too, and falls back where one begins
        begins = [step for step in begins if seen[step] < seen[step - 1]]
    apart = {after - before for before, after in pairwise(begins)}
    assert apart == {examples // 64}
    assert seen[-1] == pytest.approx(kind.recipes["paper"].s_max)


def test_few_steps_are_few_epochs():
    seen, _ = slopes(DGMw, "paper", 64)
    assert sum(now < before for before, now in pairwise(seen)) <= len(seen) // 20
