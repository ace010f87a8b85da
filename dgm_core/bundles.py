"""Several experts in one pass: for a few rows of each of many tasks, where a pass costs more than its arithmetic."""

import threading
from collections.abc import Sequence
from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dgm_core.memory import Expert


class Bundle:
    """Experts of one signature, each given rows of its own: weights side by side, one batched product for each layer.

    What it generates is what the experts generate up to the last bits of a sum. The bytes that are promised for a seed
    are those of the experts themselves.

    Arguments:
        experts: of one memory and one signature (see `Expert.signature`), on one device.

    Attributes:
        nbytes: memory that its tensors take.
    """

    def __init__(self, experts: Sequence[Expert]) -> None:
        if len({expert.signature for expert in experts}) != 1:
            raise ValueError("experts of several signatures cannot be bundled")
        states = [expert.network.state_dict() for expert in experts]
        self._weights = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        self._shell = deepcopy(experts[0].network).to("meta")
        self._own = threading.local()
        self.nbytes = sum(t.numel() * t.element_size() for t in self._weights.values())

    @torch.inference_mode()
    def generate(
        self, z: Float[Tensor, "experts rows noise"], c: Int[Tensor, "experts rows"]
    ) -> Float[Tensor, "experts rows *shape"]:
        """As many examples of each expert, as `Expert.generate`; may be called by several threads at one time."""
        network = self._network()
        x: Tensor = vmap(lambda weights, z, c: functional_call(network, weights, (z, c)))(self._weights, z, c)
        return x

    def _network(self) -> nn.Module:
        """This thread's own: a functional call puts its tensors into the module for as long as it runs."""
        if not hasattr(self._own, "network"):
            self._own.network = deepcopy(self._shell)
        network: nn.Module = self._own.network
        return network
