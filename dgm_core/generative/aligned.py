"""What training sees of a generator that is retrained: it learns the classes of its data and holds the others."""

from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dgm_core.networks.architecture import Generator
from dgm_core.training.trainees import Free


class Aligned(Free):
    """A generator whose other classes are held where they were, by replay alignment  [MeRGAN sec. 4.2].

    Every pass generates as many examples of the classes that are held as of those that are learned, so that norms see
    one mixture of both wherever they look: in the game, in its cost and when they are measured in the end.

    Arguments:
        network: as it was trained before, with one row of its embedding for each class, new ones included.
        learned: the rows that class indices of the data stand for.
        held: the rows of all other classes; none: nothing is held.
        weight: of the squared distance between an example and what the generator made of the same noise before: the
            mean over the example, so that a weight means the same for examples of any size.
    """

    def __init__(
        self, network: Generator, learned: Int[Tensor, " learned"], held: Int[Tensor, " held"], weight: float
    ) -> None:
        super().__init__(network)
        self.learned, self.held, self.weight = learned, held, weight
        self.before = deepcopy(network).eval().requires_grad_(False) if len(held) else None

    def __call__(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples for noise z and class indices c of the data."""
        x, _ = self._beside_held(z, c, *self._replay(z))
        return x

    def with_cost(
        self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, ""]]:
        """Examples, and how far those that are held have moved: weight·E‖G(z, c) − G_before(z, c)‖² / size of x."""
        replay = self._replay(z)
        x, held = self._beside_held(z, c, *replay)
        if self.before is None:
            return x, z.new_zeros(())
        with torch.no_grad():
            wanted = self.before(*replay)
        return x, self.weight * (held - wanted).float().square().mean()

    def _beside_held(self, z: Tensor, c: Tensor, z_held: Tensor, c_held: Tensor) -> tuple[Tensor, Tensor]:
        """One pass over both: examples of the data's classes, and of those that are held."""
        both: Tensor = self.network(torch.cat([z, z_held]), torch.cat([self.learned[c], c_held]))
        return both[: len(z)], both[len(z) :]

    def _replay(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Noise and rows of what is held: as much as there is of `z`, or nothing."""
        n = len(z) if len(self.held) else 0
        chosen = torch.randint(max(1, len(self.held)), (n,), device=z.device)
        return torch.randn(n, z.shape[1], device=z.device), self.held[chosen]
