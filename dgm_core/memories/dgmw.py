"""`dgmw`: Dynamic Generative Memory with a binary mask per weight (Ostapenko et al. 2019).

One generator of growing weights W. A task learns a mask over them, its own norms and output layer; the weights that its
mask uses are reserved for ever: later tasks may read but not change them, and the network grows until its free capacity
is what it was. A task's expert is the generator with m^t∘W put in  [DGM eq. 1].
"""

from types import MappingProxyType

from dgm_core.masking.gating import WeightGating
from dgm_core.memories.masked import MaskedMemory
from dgm_core.training.recipes import FAST, PAPER


class DGMw(MaskedMemory):
    """Dynamic Generative Memory with a mask per weight."""

    kind = "dgmw"
    gating = WeightGating()
    recipes = MappingProxyType({"fast": FAST, "paper": PAPER})
