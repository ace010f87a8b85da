import torch
from torch import nn

from dgm_core.evaluation.nearest import nearest
from dgm_core.manifest import DataSpec
from dgm_core.memory import Expert, TaskData

SPEC = DataSpec((1, 8, 8), "uint8")
CPU = torch.device("cpu")


class Flat(Expert):
    """An expert for images of one brightness, or of two, in [-1, 1]."""

    digest, noise_dim, nbytes, classes = "", 4, 0, (0, 1)

    def __init__(self, *levels):
        self.levels = torch.tensor(levels)

    def generate(self, z, c):
        level = self.levels[c % len(self.levels)]
        return level[:, None, None, None].expand(-1, *SPEC.shape) + 0.01 * z[:, :1, None, None]

    def to(self, device):
        return self


def bright(*levels):
    x = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, *SPEC.shape).repeat(20, 1, 1, 1)
    return TaskData(x, torch.zeros(len(x), dtype=torch.long), (0,))


def test_the_task_whose_samples_look_most_like_the_data_is_the_nearest():
    experts = {"dark": Flat(-0.9), "bright": Flat(0.9), "both": Flat(-0.9, 0.9)}
    for levels, expected in (((10,), "dark"), ((250,), "bright"), ((10, 250), "both")):
        assert nearest(bright(*levels), experts, nn.Flatten(), SPEC, CPU) == expected


def test_large_images_are_looked_at_a_few_at_a_time():
    """Activities of 256 images of 256 x 256 in the widest layers of a published base would take tens of gigabytes."""
    seen = []

    class Watched(nn.Flatten):
        def forward(self, x):
            seen.append(x.shape)
            return super().forward(x)

    large = DataSpec((1, 256, 256), "uint8")
    x = torch.full((300, *large.shape), 10, dtype=torch.uint8)
    assert nearest(TaskData(x, torch.zeros(300, dtype=torch.long), (0,)), {}, Watched(), large, CPU) is None
    assert sum(shape[0] for shape in seen) == 256 and max(shape[0] for shape in seen) <= 48


def test_without_a_task_there_is_no_nearest():
    assert nearest(bright(10), {}, nn.Flatten(), SPEC, CPU) is None
