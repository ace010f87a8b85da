"""A generator seen through the weight masks of the task that is being learned.

    y = act((m∘W)ᵀ x)       [DGM eq. 1]

The network itself knows nothing of masks: its effective weights m∘W are put in from outside.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from dgm_core.masking.gates import compensate_, hard_gate, occupancy, soft_gate
from dgm_core.masking.reservation import Masks, protect_, restore_
from dgm_core.masking.sparsity import reservation_cost


class MaskedGenerator:
    """Shared weights W, gates over them, and the entries that earlier tasks reserved.

    Arguments:
        network: a generator; its parameters named in `reserved` are the shared weights.
        reserved: m^{<t}, by weight name.
        s_max: largest slope of the gates.
    """

    def __init__(self, network: nn.Module, reserved: Masks, s_max: float) -> None:
        self.network, self.reserved, self.s_max = network, reserved, s_max
        self.weights = {name: network.get_parameter(name) for name in reserved}
        self.embeddings = {name: nn.Parameter(torch.zeros_like(w)) for name, w in self.weights.items()}
        self.hard: dict[str, Tensor] | None = None
        self.slope = 1 / s_max
        self._snapshot = {name: w.detach().clone() for name, w in self.weights.items()}

    @property
    def own(self) -> list[nn.Parameter]:
        """Parameters that belong to this task alone: embedding, norms, head."""
        return [p for name, p in self.network.named_parameters() if name not in self.reserved]

    def masks(self) -> dict[str, Tensor]:
        """m: soft at the present slope, or hard once `harden` was called  [DGM eq. 2]."""
        if self.hard is not None:
            return self.hard
        return {name: soft_gate(e, self.slope) for name, e in self.embeddings.items()}

    def __call__(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples through the effective weights m∘W  [DGM eq. 1]."""
        return self._through(self.masks(), z, c)

    def with_cost(
        self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, ""]]:
        """Examples, and what the masks that made them claim of the free capacity (a constant 0 once hard)."""
        masks = self.masks()
        cost = reservation_cost(masks, self.reserved) if self.hard is None else z.new_zeros(())
        return self._through(masks, z, c), cost

    def before_step(self) -> None:
        """Makes the gradients fit for the optimiser: reserved weights get none, gates get their slope's share back."""
        protect_(self.weights, self.reserved)
        if self.hard is None:
            for e in self.embeddings.values():
                compensate_(e, self.slope, self.s_max)

    def harden(self) -> None:
        """From here on the masks are the binary ones that will be committed."""
        self.hard = {name: hard_gate(e.detach()) for name, e in self.embeddings.items()}

    def trainable(self) -> dict[str, Tensor]:
        """Entries that this task may still change once its masks are hard: free and active."""
        assert self.hard is not None
        return {name: self.hard[name] & ~self.reserved[name] for name in self.weights}

    def settle(self) -> int:
        """Copies reserved weights back from the snapshot and returns how many had moved: 0, or there is a defect."""
        return restore_(self.weights, self._snapshot, self.reserved)

    def occupancy(self) -> dict[str, float]:
        """Mean of each mask, for reports."""
        return {name: occupancy(m.detach()) for name, m in self.masks().items()}

    def _through(self, masks: Mapping[str, Tensor], z: Tensor, c: Tensor) -> Tensor:
        effective = {name: masks[name] * w for name, w in self.weights.items()}
        x: Tensor = functional_call(self.network, effective, (z, c))
        return x
