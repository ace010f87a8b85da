"""Noise and occlusion: what reconstruction is good for beside generating  [DGDMN sec. 5.2, fig. 9].

A long-term memory and a plain network are trained on all digits together, then tested on images that were spoilt:

    reconstructed    the memory's learner sees what its generator makes of the image, as always
    as it is         the same learner sees the image itself
    NN               a plain network of the same size
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from harness.lines import Line
from torch import Tensor

from dgdmn.baselines import Joint
from dgdmn.course import accuracy
from dgdmn.generative import LongTerm, read
from dgdmn.settings import JOINT_EPOCHS, Setting
from dgdmn.tasks import Examples, Task
from dgm_core.dual.learners import LearnerRecipe
from dgm_core.training.classifying import BATCH

RECONSTRUCTED, AS_IT_IS, PLAIN = READERS = "reconstructed", "as it is", "NN"
LEVELS: Mapping[str, tuple[float, ...]] = {
    "noise": tuple(step / 10 for step in range(11)),
    "occlusion": tuple(step / 14 for step in range(10)),
}
"""Standard deviation of the noise on pixels in [0, 1]; side of the black square in the centre over the image's."""


def robustness(setting: Setting, tasks: list[Task]) -> Line:
    """Accuracies in [0, 1] of each reader at each level of each kind of spoiling."""
    whole = together(tasks)
    memory = LongTerm(setting, [whole])
    long_learner = LearnerRecipe(lambda examples: JOINT_EPOCHS * max(1, examples // BATCH), (setting.hidden,) * 2)
    memory.replay = replace(memory.replay, learner=long_learner)
    network = Joint(setting, whole.train.x[0].numel())
    for method in (memory, network):
        method.learn(whole)
    held = memory.holder(whole.name)
    readers: dict[str, Callable[[Tensor], Tensor]] = {
        RECONSTRUCTED: lambda x: read(held, x),
        AS_IT_IS: lambda x: read(held, x, reconstruct=False),
        PLAIN: lambda x: network.labels(whole.name, x),
    }
    x, y = whole.test.x, whole.test.y
    return {
        how: {name: [accuracy(reader(spoil(x, level)), y) for level in LEVELS[how]] for name, reader in readers.items()}
        for how, spoil in SPOILING.items()
    }


def together(tasks: list[Task]) -> Task:
    """All tasks as one."""

    def joined(parts: list[Examples]) -> Examples:
        return Examples(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))

    return Task("all", joined([task.train for task in tasks]), joined([task.test for task in tasks]))


def noisy(x: Tensor, deviation: float) -> Tensor:
    """uint8 images with Gaussian noise, the same at every call, cut off at black and white."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return (x / 255 + deviation * noise).clamp(0, 1).mul(255).round().to(torch.uint8)


def occluded(x: Tensor, share: float) -> Tensor:
    """uint8 images with a black square in the centre."""
    side = x.shape[-1]
    patch = round(share * side)
    start = (side - patch) // 2
    covered = x.clone()
    covered[..., start : start + patch, start : start + patch] = 0
    return covered


SPOILING: Mapping[str, Callable[[Tensor, float], Tensor]] = {"noise": noisy, "occlusion": occluded}
