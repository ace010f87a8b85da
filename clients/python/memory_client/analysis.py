"""How the tasks of a memory use its generator, as measured when each was learned.

Masks select single weights or whole units of the shared generator; what one of them selects is called a gate here.
Where the generator is a frozen base, tasks have no gates but style parameters, and those are counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

STYLE = "style"
"""The `gate` of a task that modulates a frozen base."""

MASKS = "weight", "unit"
"""The `gate` of a task that has masks."""


@dataclass(frozen=True)
class LayerUsage:
    """What a task's mask selects in one layer, in gates; of a style: in parameters.

    Attributes:
        layer: its name in the generator.
        size: gates of the layer when the task was learned; of a style: parameters of the base's layer.
        reserved: newly reserved by the task; of a style: what the task stores.
        reused: reserved by earlier tasks, and used by this one; of a style: among these, weights of shared vectors.
        free: reserved by nobody after it; of a style: 0.
    """

    layer: str
    size: int
    reserved: int
    reused: int
    free: int

    @property
    def unused(self) -> int:
        """Gates that earlier tasks reserved and this one does not use; means nothing of a style."""
        return self.size - self.reserved - self.reused - self.free


@dataclass(frozen=True)
class MaskPoint:
    """The masks at one moment of training.

    Attributes:
        step: of the recipe's schedule, which a task with little time walks through in fewer steps.
        slope: s of the gates σ(s·e), which grows while they harden; 0 once they are hard.
        occupancy: layer -> mean of its mask, in [0, 1].
    """

    step: int
    slope: float
    occupancy: Mapping[str, float]


@dataclass(frozen=True)
class TaskAnalysis:
    """How one task uses the shared generator. For a kind without masks or styles, all is 0 or empty.

    Attributes:
        task: its name.
        gate: what one gate of its masks selects: "weight" or "unit"; "style" of a style; of a kind of another sort
            its own word, if it has one.
        layers: the use of each layer, input side first.
        trajectory: of the masks while it was trained, in the order of steps.
        parameters: shared weights of the generator when it was learned; of a style: all that the task stores.
        worst_case: what they were, had every earlier task reserved all that was free; of a style: stored whole.
        weight_bytes: on disk: the values of the newly reserved weights; of a style: its scales and shifts.
        mask_bytes: on disk: the masks.
        own_bytes: on disk: norms, output layer, class embedding; of a style: its biases; and the file's own header.
        erasable: no later task may reuse what it reserved.
        consolidated: it is in a generator that tasks share and are retrained with: it cannot be forgotten alone.
        reuses: the earlier tasks whose weights or units it uses; none of them can be forgotten before it.
    """

    task: str
    gate: str = ""
    layers: tuple[LayerUsage, ...] = ()
    trajectory: tuple[MaskPoint, ...] = ()
    parameters: int = 0
    worst_case: int = 0
    weight_bytes: int = 0
    mask_bytes: int = 0
    own_bytes: int = 0
    erasable: bool = False
    consolidated: bool = False
    reuses: tuple[str, ...] = ()

    @property
    def usage(self) -> LayerUsage:
        """The use of all layers together; its name is empty."""
        sums = (sum(getattr(each, name) for each in self.layers) for name in ("size", "reserved", "reused", "free"))
        return LayerUsage("", *sums)

    @property
    def bytes(self) -> int:
        """On disk, all of it."""
        return self.weight_bytes + self.mask_bytes + self.own_bytes

    @property
    def hardened(self) -> int | None:
        """The first step at which the masks were known to be hard; None if they were never seen so."""
        return next((point.step for point in self.trajectory if not point.slope), None)
