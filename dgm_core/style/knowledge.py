"""Low-rank styles, and the knowledge base that tasks build up together  [GANM sec. 4.3] [GANM alg. 1].

    Γ_t = S + L·diag(λ_t)·Rᵀ + E_t,        E_t ≈ U·diag(s_t)·Vᵀ

S are the base's own statistics: only what a task changes about them is factored, so that a task starts as the base and
nothing is spent on what the base knows. L and R hold the vectors that earlier tasks kept (singular ones at first,
trained on since); λ_t, s_t and the new vectors U, V are all that a task stores. Without sharing L and R are empty.
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


def energy_at(index: int, layers: int) -> float:
    """Share of the energy that is kept in layer `index` of `layers`, counted from the noise."""
    return next(energy for depth, energy in ENERGIES if index / layers < depth)


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

    What weighs a vector, and the vector itself, moves many small entries of the matrix: both are trained in units in
    which a step moves the matrix about as far as a step of every entry would. In the units of the entries
    knowledge, and what is left after truncation, would hardly move in the steps of a task.

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
        self.unit = math.sqrt(max(rows, columns))
        self.rank: int | None = None
        self.register_buffer("start", start.clone())
        self.register_buffer("left", left)
        self.register_buffer("right", right)
        self.coefficients = nn.Parameter(start.new_zeros(left.shape[1]))
        self.residual = nn.Parameter(start.new_zeros(rows, columns))
        self.values = nn.Parameter(start.new_zeros(min(rows, columns)))
        self.new_left = nn.Parameter(start.new_zeros(rows, min(rows, columns)))
        self.new_right = nn.Parameter(start.new_zeros(columns, min(rows, columns)))

    def forward(self) -> Tensor:
        """The statistics, in the shape of `start`; in single precision, whatever the network computes in."""
        with torch.autocast(self.start.device.type, enabled=False):  # what is learned is what will be committed
            own: Tensor = self.residual
            if self.rank is not None:
                own = (self.new_left * (self.unit**3 * self.values)) @ self.new_right.T
            return self.start + (self._known() + own).view_as(self.start)

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
        """Keeps the fewest singular values that hold the energy; from here on they and their vectors are trained."""
        u, s, v = torch.linalg.svd(self.residual.double(), full_matrices=False)
        lost = s.square().flip(0).cumsum(0).flip(0)  # by keeping fewer than j + 1
        allowed = (1 - self.energy) * (self._known().double() + self.residual.double()).square().sum()
        self.rank = int((lost > allowed).sum())
        self.values.zero_()[: self.rank] = s[: self.rank].float() / self.unit
        self.new_left[:, : self.rank] = u[:, : self.rank].float() / self.unit
        self.new_right[:, : self.rank] = v[: self.rank].T.float() / self.unit

    def tensors(self) -> dict[str, Tensor]:
        """What a task stores of it, once it is truncated."""
        k = self.rank
        assert k is not None
        return {
            "coefficients": self.unit * self.coefficients.detach(),
            "values": self.unit * self.values.detach()[:k],
            "left": self.unit * self.new_left.detach()[:, :k],
            "right": self.unit * self.new_right.detach()[:, :k],
        }

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
