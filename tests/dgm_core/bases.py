"""Bases that are quick to make: random weights, images of 8 x 8."""

from dataclasses import dataclass
from functools import cache

import torch

from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.style.base import Base
from dgm_core.training.bases import design_of

IMAGE = DataSpec((1, 8, 8), "uint8")


def random_base(name="tiny", spec=IMAGE, network="dcgan", width=4, noise=8, seed=0) -> Base:
    """A base that was never trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        design = design_of(spec, network, width, noise)
        g, d = design.generator(spec, 1), design.discriminator(spec, 1)
        for p in (*g.parameters(), *d.parameters()):
            if p.requires_grad and p.dim() > 1:
                torch.nn.init.normal_(p, std=0.1)
    return Base.of(name, design, g.eval(), d, {"data": "none"})


@dataclass(frozen=True)
class Shelf:
    """Some bases; without a name, the first."""

    all: tuple[Base, ...]

    def find(self, name: str, spec: DataSpec) -> tuple[str, bytes]:
        """See `Bases.find`."""
        for base in self.all:
            if name in ("", base.name, base.digest):
                base.require_fit(spec)
                return base.digest, base.blob
        raise CannotLearn("options.base", f"there is no base {name!r}")


@cache
def tiny_bases() -> Shelf:
    """One base, for images of 8 x 8."""
    return Shelf((random_base(),))
