"""`dgma`: Dynamic Generative Memory with a binary mask per unit (Ostapenko et al. 2019).

As `dgmw`, but a task switches whole units on and off, after their activation. A weight is reserved where both units
that it connects are; a task's expert is the generator with the units of m^t = 0 removed  [DGM eq. 1]. Its masks are
tiny and its experts can be pruned, but a network of units grows faster than one of weights.
"""

from dataclasses import replace
from functools import partial
from types import MappingProxyType

from dgm_core.masking.gating import UnitGating
from dgm_core.memories.masked import MaskedMemory
from dgm_core.training.objectives import AuxiliaryWasserstein
from dgm_core.training.recipes import FAST, PAPER

LIGHT_PENALTY = partial(AuxiliaryWasserstein, penalty=1.0)
"""λ_GP of the published code. Under the usual 10 so wide a generator came apart in the middle of its second task."""


class DGMa(MaskedMemory):
    """Dynamic Generative Memory with a mask per unit."""

    kind = "dgma"
    gating = UnitGating()
    recipes = MappingProxyType(
        {
            "fast": replace(FAST, reservation=0.1),  # less lets a task take every unit of the last layer
            "paper": replace(PAPER, objective=LIGHT_PENALTY, width=20, s_max=1e5, reservation=0.01),
        }
    )
