"""The smallest memory kind, to begin a new one from: for each class of a task, a Gaussian of independent values.

x = μ_c + σ_c·z
"""

from types import MappingProxyType

import torch

from dgm_core.blobs import pack, unpack
from dgm_core.experts import FrozenExpert
from dgm_core.memories.taught import TaughtMemory, mix
from dgm_core.networks.architecture import Generator
from dgm_core.topology import Topology
from dgm_core.training.batches import to_range
from dgm_core.training.recipes import FAST
from dgm_core.training.running import Trained


class Gaussians(Generator):
    topology = Topology((), (), ())  # no units: nothing to fold, to narrow or to formulate otherwise

    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, z, c):
        x = self.mean[c] + self.deviation[c] * z.view(len(z), *self.mean.shape[1:])
        return x.clamp(-1, 1) if x.ndim == 4 else x

    def folded(self):
        return self

    def narrowed(self, units):
        return self

    def served(self):
        return self


class GaussianMemory(TaughtMemory):
    kind = "gaussian"
    recipes = MappingProxyType({"fast": FAST})

    def __init__(self, manifest, blobs):
        super().__init__(manifest, blobs)
        self.fitted = []
        for task in manifest.tasks:
            self.append(blobs[task.blob], task.task)

    def seed_of(self, task):
        return mix(self.chosen.seed, task)

    def trained(self, real, task, terms, steps, clock, device, checkpoints):
        clock.tick("generator", 0, 1)
        classes = [to_range(real.x[real.y == c]) for c in range(len(real.classes))]
        moments = {"mean": [x.mean(0) for x in classes], "deviation": [x.std(0) for x in classes]}
        clock.tick("generator", 1, 1)
        return pack({name: torch.stack(each).cpu() for name, each in moments.items()}, {"task": task}), Trained()

    def append(self, blob, task):
        self.fitted.append(unpack(blob)[0])

    def materialised(self, index, classes):
        tensors = self.fitted[index]
        return FrozenExpert(Gaussians(**tensors).eval(), classes, tensors["mean"][0].numel())
