"""What the adversarial loop trains: a generator that is free to move, behind gates, or in a style of low rank."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from dgm_core.analysis import GatePoint
from dgm_core.errors import TrainingDiverged
from dgm_core.masking.annealing import Annealing
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.masking.sparsity import scarcity
from dgm_core.style.knowledge import Factored
from dgm_core.style.modulation import Modulation
from dgm_core.training.recipes import Recipe

PROBE_STEPS = 30
FEWEST_BATCHES = 20
"""Of an epoch in which the slope rises."""


class Trainee(ABC):
    """A generator as the adversarial loop sees it.

    Arguments:
        network: the generator itself; its norms are measured anew in the end.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @property
    def settled(self) -> bool:
        """Whether what it generates now is what it would generate if it were committed; averaging starts here."""
        return True

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """What is trained, as Adam takes it."""

    @abstractmethod
    def averaged(self) -> tuple[Mapping[str, nn.Parameter], Mapping[str, Tensor]]:
        """Parameters by name, and of some of them the only entries that may be averaged."""

    @abstractmethod
    def __call__(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples for noise z and class indices c."""

    def with_cost(
        self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, ""]]:
        """Examples, and what is added to the generator's loss: nothing, unless a trainee says otherwise."""
        return self(z, c), z.new_zeros(())

    def before_step(self) -> None:  # noqa: B027 - most take their gradients as they are
        """Makes the gradients fit for the optimiser."""

    def enter(self, at: int, wanted: int) -> None:  # noqa: B027 - most are the same from the first step to the last
        """Takes its place in a schedule of `wanted` steps."""

    def finish(self) -> None:  # noqa: B027 - most have nothing that could have moved
        """Called once, after the last step. Raises TrainingDiverged if something moved that must not."""

    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, live."""
        return dict(self.network.state_dict())

    def marks(self) -> Any:
        """Where it stands besides, as JSON can hold it."""
        return None

    def resume(self, marks: Any) -> None:  # noqa: B027 - most are told by their tensors alone
        """Goes on from there, once its tensors are those of the same moment."""

    def metrics(self) -> dict[str, float]:
        """For reports."""
        return {}

    def point(self) -> GatePoint | None:
        """What is recorded along the way; None: nothing."""
        return None


class Free(Trainee):
    """A generator whose every parameter that asks for a gradient is trained."""

    def groups(self) -> list[dict[str, Any]]:
        """All in one group."""
        return [{"params": list(self._learning.values())}]

    def averaged(self) -> tuple[Mapping[str, nn.Parameter], Mapping[str, Tensor]]:
        """All that is trained."""
        return self._learning, {}

    def __call__(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """What the network makes of them."""
        x: Tensor = self.network(z, c)
        return x

    @property
    def _learning(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}


class Masked(Trainee):
    """A generator behind gates: soft ones whose slope rises until they are steps, then the hard ones.

    Arguments:
        g: the generator, its gates and what earlier tasks reserved.
        recipe: slopes, the price of a reservation, when the gates become hard.
    """

    def __init__(self, g: MaskedGenerator, recipe: Recipe) -> None:
        super().__init__(g.network)
        self.g, self.recipe = g, recipe
        self.price = recipe.reservation * scarcity(g.claimed)

    @property
    def settled(self) -> bool:
        """Whether the gates are hard."""
        return self.g.hard is not None

    def groups(self) -> list[dict[str, Any]]:
        """Shared weights and what is the task's own; the gates' embeddings, at a rate of their own."""
        return [
            {"params": [*self.g.shared.values(), *self.g.own]},
            {"params": list(self.g.embeddings.values()), "lr": self.recipe.lr_e},
        ]

    def averaged(self) -> tuple[Mapping[str, nn.Parameter], Mapping[str, Tensor]]:
        """All parameters; of shared weights only what the task may still change."""
        return dict(self.network.named_parameters()), self.g.trainable()

    def __call__(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples through the effective weights  [DGM eq. 1]."""
        return self.g(z, c)

    def with_cost(
        self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, ""]]:
        """Examples, and λ_RU·α·R of the gates that made them  [DGM eq. 6]."""
        x, cost = self.g.with_cost(z, c)
        return x, self.price * cost

    def before_step(self) -> None:
        """Reserved weights get no gradient, gates get their slope's share back."""
        self.g.before_step()

    def enter(self, at: int, wanted: int) -> None:
        """Takes the slope of this step, or hard gates."""
        if self.settled:
            return
        hard_from = max(min(PROBE_STEPS, wanted), round(self.recipe.hard_at * wanted))
        if at >= hard_from:
            self.g.harden()
            return
        epochs = max(1, min(self.recipe.epochs, hard_from // FEWEST_BATCHES))
        self.g.slope = Annealing(hard_from, epochs, self.recipe.s_max, self.g.gating.local).slope(at)

    def finish(self) -> None:
        """Copies reserved weights back. Raises TrainingDiverged if one had moved."""
        if moved := self.g.settle():
            raise TrainingDiverged(
                f"{moved} reserved weights moved during training; this is a defect, please report it"
            )

    def tensors(self) -> dict[str, Tensor]:
        """The network and the embeddings of the gates."""
        return super().tensors() | {f"gates/{name}": e.detach() for name, e in self.g.embeddings.items()}

    def marks(self) -> bool:
        """Whether the gates are hard."""
        return self.settled

    def resume(self, marks: bool) -> None:
        """Hard gates follow from their embeddings, which nothing moves any more."""
        if marks:
            self.g.harden()

    def metrics(self) -> dict[str, float]:
        """Slope and mean of the gates."""
        occupied = self.g.occupancy()
        return {"slope": self.g.slope, "mask_occupancy": sum(occupied.values()) / len(occupied)}

    def point(self) -> GatePoint:
        """Slope, 0 once hard, and mean of the gates of each layer."""
        return {"slope": 0.0 if self.settled else self.g.slope, "occupancy": self.g.occupancy()}


class Styled(Free):
    """A student on a frozen base; styles in low rank are first penalised in their residuals, then held at their ranks.

    Arguments:
        network: with modulated layers, their statistics whole or `Factored`.
        recipe: learning rates; when to fix the ranks, the weight of the penalty.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__(network)
        self.recipe = recipe
        self.parts = [module for module in network.modules() if isinstance(module, Factored)]
        self.steps = 0

    def groups(self) -> list[dict[str, Any]]:
        """Scales and shifts; biases and the columns of classes, at a rate of their own.

        A scale moves a whole kernel at once, and kernels are small: what is a step for a bias would tear them apart.
        """
        worn = [module for module in self.network.modules() if isinstance(module, Modulation)]
        kernels = {id(p) for style in worn for part in (style.scale, style.shift) for p in part.parameters()}
        return [
            {"params": [p for p in self._learning.values() if id(p) in kernels]},
            {"params": [p for p in self._learning.values() if id(p) not in kernels], "lr": self.recipe.lr_e},
        ]

    @property
    def settled(self) -> bool:
        """Whether the statistics have the rank that will be committed."""
        return all(part.rank is not None for part in self.parts)

    def with_cost(
        self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, ""]]:
        """Examples, and at some steps r·Σ‖E‖_* while residuals are free  [GANM alg. 1]."""
        x, cost = super().with_cost(z, c)
        if not self.settled and self._looks:
            cost = cost + self.recipe.rank_penalty * sum(part.penalty() for part in self.parts)
        self.steps += 1
        return x, cost

    def enter(self, at: int, wanted: int) -> None:
        """Fixes the ranks when their time has come; from then on residuals are brought back to them."""
        if self.settled:
            if self._looks:
                self._project()
        elif at >= min(wanted, round(self.recipe.hard_at * wanted)):
            for part in self.parts:
                part.truncate()

    def finish(self) -> None:
        """An average of matrices of one rank is only nearly of that rank."""
        self._project()

    def marks(self) -> dict[str, Any]:
        """The rank of each part, None while it is free, and how many steps there were."""
        return {"ranks": [part.rank for part in self.parts], "steps": self.steps}

    def resume(self, marks: dict[str, Any]) -> None:
        """Takes both."""
        self.steps = marks["steps"]
        for part, rank in zip(self.parts, marks["ranks"], strict=True):
            part.rank = rank

    @property
    def _looks(self) -> bool:
        """Whether this step looks at singular values."""
        return self.steps % self.recipe.rank_every == 0

    def _project(self) -> None:
        for part in self.parts:
            part.project()
