"""Low-rank styles, and the knowledge base that tasks build up together  [GANM sec. 4.3] [GANM alg. 1].

    Γ_t = S + L·diag(λ_t)·Rᵀ + E_t,        E_t ≈ U·diag(s_t)·Vᵀ

S are the base's own statistics: only what a task changes about them is factored, so that a task starts as the base and
nothing is spent on what the base knows. L and R hold the singular vectors that earlier tasks kept; λ_t, s_t and the new
vectors U, V are all that a task stores. Without sharing L and R are empty.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dgm_core.style.modulation import Statistics

ENERGIES = ((2 / 7, 0.80), (3 / 7, 0.90), (1.0, 0.95))
"""(up to this share of the depth, energy that is kept): close to the noise most is dropped. Of the seven blocks of the
published network blocks 0 and 1 keep 80 %, 2 keeps 90 %, all from 3 on 95 %  [GANM app. G]."""


EAGERNESS = 2
"""Of two ways to learn the same the faster one wins, and what is known costs a number where what is new costs vectors.
With more of it tasks become cheaper, and further from what they would be on their own."""


def energy_at(index: int, layers: int, truncation: float = 1.0) -> float:
    """Share of the energy that is kept in layer `index` of `layers`, counted from the noise.

    Arguments:
        truncation: what is dropped, over what `ENERGIES` drop.
    """
    return 1 - truncation * (1 - next(energy for depth, energy in ENERGIES if index / layers < depth))


@dataclass
class Knowledge:
    """Vectors per matrix, side by side in the order in which tasks added them.

    Arguments:
        left: name of a matrix (rows, columns) -> (rows, r).
        right: the same name -> (columns, r).
    """

    left: dict[str, Tensor] = field(default_factory=dict)
    right: dict[str, Tensor] = field(default_factory=dict)

    def of(self, name: str, matrix: Tensor) -> tuple[Float[Tensor, "rows r"], Float[Tensor, "columns r"]]:
        """What is known for a matrix of such a shape; r is 0 if there is nothing."""
        none = (matrix.new_zeros(matrix.shape[0], 0), matrix.new_zeros(matrix.shape[1], 0))
        return self.left.get(name, none[0]), self.right.get(name, none[1])

    def add(self, name: str, left: Float[Tensor, "rows k"], right: Float[Tensor, "columns k"]) -> None:
        """Appends vectors: what was known keeps its place, so that earlier tasks keep their bits."""
        self.left[name] = torch.cat([self.left.get(name, left[:, :0]), left], dim=1)
        self.right[name] = torch.cat([self.right.get(name, right[:, :0]), right], dim=1)


class Factored(Statistics):
    """A matrix of statistics in low rank; first its residual is free and penalised, then it is held at its rank.

    The residual is trained entry by entry to the end, and brought back to the nearest matrix of its rank after a step:
    what moves it within that rank stays, whichever vectors it turns, and the optimiser keeps what it remembers. Trained
    as a product of factors instead, a direction would move by as much as it weighs already.

    A coefficient moves many small entries at once: it is trained in units in which a step of all of them moves the
    matrix about `EAGERNESS` times as far as a step of every entry would. In the units of the entries knowledge would
    hardly be used.

    Arguments:
        start: the base's statistics, (rows, columns, 1, 1).
        left, right: the knowledge base for this matrix.
        energy: share of the squared singular values of what the task changes that is kept.
    """

    start: Tensor
    left: Tensor
    right: Tensor

    def __init__(
        self, start: Tensor, left: Float[Tensor, "rows r"], right: Float[Tensor, "columns r"], energy: float
    ) -> None:
        super().__init__()
        rows, columns = start.shape[:2]
        self.energy = energy
        self.unit = EAGERNESS * math.sqrt(max(rows, columns))
        self.rank: int | None = None
        self.register_buffer("start", start.clone())
        self.register_buffer("left", left)
        self.register_buffer("right", right)
        self.coefficients = nn.Parameter(start.new_zeros(left.shape[1]))
        self.residual = nn.Parameter(start.new_zeros(rows, columns))

    def forward(self) -> Tensor:
        """The statistics, in the shape of `start`; in single precision, whatever the network computes in."""
        with torch.autocast(self.start.device.type, enabled=False):  # what is learned is what will be committed
            return self.start + (self._known() + self.residual).view_as(self.start)

    @torch.no_grad()
    def begin(self, statistics: Tensor, weights: Float[Tensor, " k"]) -> None:
        """See `Statistics.begin`; what the weighed vectors do not make is a residual."""
        self.coefficients[: len(weights)] = weights / self.unit
        self.residual.copy_((statistics - self.start).view_as(self.residual) - self._known())

    def penalty(self) -> Float[Tensor, ""]:
        """‖η∘s‖₁ of the residual's singular values s: weak where they are large, once there is knowledge to use."""
        s: Tensor = torch.linalg.svdvals(self.residual)
        if not self.left.shape[1]:
            return s.sum()
        places = torch.arange(len(s), device=s.device)
        return ((0.1 + torch.sigmoid(10 * places / len(s))) * s).sum()

    @torch.no_grad()
    def truncate(self) -> None:
        """Fixes the rank: the fewest singular values that hold the energy."""
        s = torch.linalg.svdvals(self.residual.double())
        lost = s.square().flip(0).cumsum(0).flip(0)  # by keeping fewer than j + 1
        allowed = (1 - self.energy) * (self._known().double() + self.residual.double()).square().sum()
        self.rank = int((lost > allowed).sum())
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        """Brings the residual back to the nearest matrix of its rank, once that is fixed."""
        u, s, v = self._singular()
        self.residual.copy_((u * s) @ v.T)

    def tensors(self) -> dict[str, Tensor]:
        """What a task stores of it, once its rank is fixed."""
        u, s, v = self._singular()
        return {"coefficients": self.unit * self.coefficients.detach(), "values": s, "left": u, "right": v}

    @torch.no_grad()
    def _singular(self) -> tuple[Float[Tensor, "rows rank"], Float[Tensor, " rank"], Float[Tensor, "columns rank"]]:
        """The largest singular values of the residual, and their vectors."""
        u, s, v = torch.linalg.svd(self.residual, full_matrices=False)
        return u[:, : self.rank].contiguous(), s[: self.rank].contiguous(), v[: self.rank].T.contiguous()

    def _known(self) -> Tensor:
        known: Tensor = (self.left * (self.unit * self.coefficients)) @ self.right.T
        return known


@torch.no_grad()
def restored(start: Tensor, stored: Mapping[str, Tensor], knowledge: tuple[Tensor, Tensor]) -> Tensor:
    """The statistics that a task stored (`Factored.tensors`), computed in one order: the same bits on every machine.

    Arguments:
        knowledge: may have grown since: the task's coefficients say how much of it there was.
    """
    left, right = knowledge
    known = len(stored["coefficients"])
    total = start.to(torch.float64, copy=True)
    for coefficients, lefts, rights in (
        (stored["coefficients"], left[:, :known], right[:, :known]),
        (stored["values"], stored["left"], stored["right"]),
    ):
        for c, u, v in zip(coefficients.double(), lefts.double().T, rights.double().T, strict=True):
            total += ((c * u)[:, None] * v[None, :]).view_as(total)
    return total.float()
