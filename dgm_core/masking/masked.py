"""A generator seen through the gates of the task that is being learned.

    y = act((m∘W)ᵀ x)       [DGM eq. 1]

The network itself knows nothing of masks: its effective weights are put in from outside.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from dgm_core.masking.gates import compensate_, hard_gate, occupancy, soft_gate
from dgm_core.masking.gating import Gates, Gating
from dgm_core.masking.ledger import Ledger
from dgm_core.masking.reservation import protect_, restore_
from dgm_core.masking.sparsity import reservation_cost
from dgm_core.topology import Topology


class MaskedGenerator:
    """Shared weights W, gates over them, and what earlier tasks reserved.

    Arguments:
        network: a generator; the weights that its topology calls shared belong to the memory.
        topology: of that network.
        ledger: of the earlier tasks, grown to that topology.
        forbidden: gates that this task may not open: they belong to tasks that must stay erasable.
        s_max: largest slope of the gates.
        device: where the network is.
    """

    def __init__(
        self,
        network: nn.Module,
        topology: Topology,
        ledger: Ledger,
        forbidden: Gates,
        s_max: float,
        device: torch.device,
    ) -> None:
        self.network, self.topology, self.s_max = network, topology, s_max
        self.gating: Gating = ledger.gating
        self.reserved = {name: mask.to(device) for name, mask in ledger.reserved.items()}
        self.claimed = {name: gates.to(device) for name, gates in ledger.claimed.items()}
        self.allowed = {name: ~gates.to(device) for name, gates in forbidden.items()}
        self.weights = {c.name: network.get_parameter(c.name) for c in topology.connections}
        self.shared = {name: self.weights[name] for name in self.reserved}
        shapes = self.gating.shapes(topology)
        self.embeddings = {name: nn.Parameter(torch.zeros(shape, device=device)) for name, shape in shapes.items()}
        self.hard: dict[str, Tensor] | None = None
        self.slope = 1 / s_max
        self._snapshot = {name: w.detach().clone() for name, w in self.shared.items()}

    @property
    def own(self) -> list[nn.Parameter]:
        """Parameters that belong to this task alone: embedding, norms, head."""
        return [p for name, p in self.network.named_parameters() if name not in self.shared]

    def gates(self) -> dict[str, Tensor]:
        """m: soft at the present slope, or hard once `harden` was called  [DGM eq. 2]."""
        if self.hard is not None:
            return self.hard
        return {name: soft_gate(e, self.slope) * self.allowed[name] for name, e in self.embeddings.items()}

    def effective(self, gates: Gates) -> dict[str, Tensor]:
        """The weights that are put into the network  [DGM eq. 1]."""
        return self.gating.effective(self.topology, self.weights, gates)

    def __call__(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples through the effective weights  [DGM eq. 1]."""
        return self._through(self.gates(), z, c)

    def with_cost(
        self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, ""]]:
        """Examples, and what the gates that made them claim of the free capacity (a constant 0 once hard)."""
        gates = self.gates()
        cost = reservation_cost(gates, self.claimed) if self.hard is None else z.new_zeros(())
        return self._through(gates, z, c), cost

    def before_step(self) -> None:
        """Makes the gradients fit for the optimiser: reserved weights get none, gates get their slope's share back."""
        protect_(self.shared, self.reserved)
        if self.hard is None:
            for e in self.embeddings.values():
                compensate_(e, self.slope, self.s_max)

    def harden(self) -> None:
        """From here on the gates are the binary ones that will be committed.

        No layer is closed altogether, as it may be after very few steps: its most open gate stays open.
        """
        self.hard = {name: _hardened(e.detach(), self.allowed[name]) for name, e in self.embeddings.items()}

    def trainable(self) -> dict[str, Tensor]:
        """Entries of shared weights that this task may still change once its gates are hard: free and active."""
        assert self.hard is not None
        masks = self.gating.masks(self.topology, self.hard)
        return {name: mask & ~self.reserved[name] for name, mask in masks.items()}

    def settle(self) -> int:
        """Copies reserved weights back from the snapshot and returns how many had moved: 0, or there is a defect."""
        return restore_(self.shared, self._snapshot, self.reserved)

    @torch.no_grad()
    def committed(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Shared weights by name, and the task's own state with its gates applied, both on the CPU."""
        state = {name: t.detach().cpu() for name, t in self.network.state_dict().items() if name not in self.shared}
        own = {name: t.cpu() for name, t in self.effective(self.gates()).items() if name not in self.shared}
        return {name: w.detach().cpu() for name, w in self.shared.items()}, state | own

    def occupancy(self) -> dict[str, float]:
        """Mean of the gates of each layer, for reports."""
        return {name: occupancy(m.detach()) for name, m in self.gates().items()}

    def _through(self, gates: Mapping[str, Tensor], z: Tensor, c: Tensor) -> Tensor:
        x: Tensor = functional_call(self.network, self.effective(gates), (z, c))
        return x


def _hardened(e: Tensor, allowed: Tensor) -> Tensor:
    gates = hard_gate(e) & allowed
    if not gates.any() and allowed.any():
        gates.view(-1)[e.masked_fill(~allowed, -torch.inf).argmax()] = True
    return gates
