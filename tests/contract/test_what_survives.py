"""For all kinds, without checkpoints: of a task that was learned no example survives, and nothing that only trained."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from dgm_core.networks.discriminators import Discriminator
from dgm_core.training.adversarial import AdversarialStep
from dgm_core.training.batches import to_range
from tests.contract.test_memory_kinds import IMAGE, examples, learned_now, variants

pytestmark = pytest.mark.usefixtures("small_batches")

TELLING = 16
"""Numbers of which a tensor has at least as many, not all alike, to be found by them."""


@pytest.fixture
def trained(monkeypatch):
    """Discriminators that played, and optimisers that took a step."""
    discriminators: list[Discriminator] = []
    optimisers: list[torch.optim.Optimizer] = []
    make = AdversarialStep.__init__

    def made(self, g, d, recipe, noise_dim):
        discriminators.append(d)
        make(self, g, d, recipe, noise_dim)

    def stepped(optimiser, *_):
        if optimiser not in optimisers:
            optimisers.append(optimiser)

    monkeypatch.setattr(AdversarialStep, "__init__", made)
    hook = register_optimizer_step_post_hook(stepped)
    yield discriminators, optimisers
    hook.remove()


def telling(tensors):
    return [t.numpy().tobytes() for t in tensors if t.numel() >= TELLING and t.min() < t.max()]


@variants
def test_no_example_no_discriminator_and_no_optimisers_state_is_in_what_survives_a_task(variant, trained):
    data = examples(IMAGE, (0, 1))
    learned = learned_now(*variant.empty(), data, "t0")
    survives = b"".join(learned.blobs.values()) + repr(learned.entry).encode()
    discriminators, optimisers = trained
    games = telling(p.detach() for d in discriminators for p in d.parameters() if p.requires_grad)
    states = telling(t for each in optimisers for state in each.state.values() for t in state.values())
    weights = telling(p.detach() for each in optimisers for group in each.param_groups for p in group["params"])
    assert states and any(kept in survives for kept in weights), "what is kept would be found"
    assert games or variant.kind != "dgmw", "a kind without a discriminator has none to be found"
    for gone in (*games, *states, *telling(data.x), *telling(to_range(data.x))):
        assert gone not in survives
