"""The networks of GAN memory's published bases at their full size, on a processor."""

from dataclasses import replace

import pytest
import torch

from dgm_core.manifest import DataSpec
from dgm_core.style.foundation import Foundation
from dgm_core.training.adversarial import AdversarialStep
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.recipes import STYLE_PAPER
from dgm_core.training.trainees import Styled
from tests.dgm_core.bases import random_base

SPEC = DataSpec((3, 256, 256), "uint8")


@pytest.mark.slow
def test_a_task_of_256_x_256_images_takes_a_step_on_a_base_of_the_published_size():
    base = random_base("large", SPEC, "gpgan", width=64, noise=256)
    foundation = Foundation(base, SPEC)
    student, critic = foundation.student(1), foundation.critic(1)
    style = {name: p for name, p in student.named_parameters() if p.requires_grad}
    assert 0.20 < sum(p.numel() for p in style.values()) / base.parameters < 0.21, "as published: 20.2 %"
    before = {name: p.detach().clone() for name, p in student.named_parameters()}

    x = torch.randint(0, 256, (2, *SPEC.shape), dtype=torch.uint8)
    batches = BalancedBatches(x, torch.zeros(2, dtype=torch.long), 1)
    recipe = replace(STYLE_PAPER, batch=1)
    step = AdversarialStep(Styled(student, recipe), critic, recipe, base.design.noise)
    step(batches)

    assert all(loss.isfinite() for loss in step.losses.values())
    moved = {name for name, p in student.named_parameters() if not torch.equal(p, before[name])}
    assert moved == style.keys(), "the whole style has moved, and nothing else has"
    with torch.no_grad():
        image = student(torch.randn(1, base.design.noise), torch.zeros(1, dtype=torch.long))
    assert image.shape == (1, *SPEC.shape) and image.abs().max() <= 1 and image.isfinite().all()
