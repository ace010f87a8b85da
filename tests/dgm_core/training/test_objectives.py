import pytest
import torch

from dgm_core.manifest import DataSpec
from dgm_core.networks import architecture_of
from dgm_core.training import objectives
from dgm_core.training.objectives import AuxiliaryWasserstein, LogisticProjection


@pytest.mark.parametrize(
    ("objective", "penalty"),
    [(LogisticProjection(every=1), "r1_penalty"), (AuxiliaryWasserstein(), "gradient_penalty")],
    ids=["fast", "paper"],
)
def test_where_convolutions_compute_in_bfloat16_losses_and_second_derivatives_do_not(objective, penalty, monkeypatch):
    d = architecture_of("dcgan", DataSpec((1, 8, 8), "uint8"), 4).discriminator(2, 4)
    real, fake, c = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
    seen = []

    def spied(critic, *x):
        seen.append(critic(x[0]).dtype)
        return original(critic, *x)

    original = getattr(objectives, penalty)
    monkeypatch.setattr(objectives, penalty, spied)
    with torch.autocast("cpu", torch.bfloat16):
        assert d.judge(real)[0].dtype == torch.bfloat16
        losses = [objective.critic_loss(d, real, fake, c, c), objective.generator_loss(d, fake, c)]
    assert seen == [torch.float32]
    assert [loss.dtype for loss in losses] == [torch.float32, torch.float32]
