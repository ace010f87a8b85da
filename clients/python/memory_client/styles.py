"""What the parts of a task's style do: samples with some of them switched on (Cong et al. 2020, Fig. 2).

Everything that is off is as in the frozen base. Each setting gets the same noise, so that only the style differs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_client.analysis import STYLE
from memory_client.errors import CannotInterpolate, UnknownTask
from memory_client.memory import Memory
from memory_client.types import Label, MemoryInfo


@dataclass(frozen=True)
class Setting:
    """Which parts of a style are on.

    Arguments:
        name: for people.
        weight: 0 for none of it, 1 for what groups and layers say.
        groups, layers: those that are on; empty: all.
    """

    name: str
    weight: float = 1.0
    groups: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """Samples under one setting: x (n, *shape) as float32, images in [-1, 1]."""

    setting: Setting
    x: NDArray[np.float32]

    def distance(self, other: "Shown") -> float:
        """Mean absolute difference of the values of both."""
        return float(np.abs(self.x - other.x).mean())


def by_group() -> list[Setting]:
    """None, each group alone, all but the biases, and all, as in Fig. 2(a) and (b)."""
    return [
        Setting("none", 0.0),
        Setting("scales only", groups=("scale",)),
        Setting("shifts only", groups=("shift",)),
        Setting("biases only", groups=("bias",)),
        Setting("without biases", groups=("scale", "shift")),
        Setting("all"),
    ]


def by_layer(layers: Sequence[str]) -> list[Setting]:
    """Layers added one after another, from the noise to the image, as in Fig. 2(c); the last is all of them."""
    return [Setting(f"+ {layer}", layers=tuple(layers[: index + 1])) for index, layer in enumerate(layers)]


def style_layers(memory: MemoryInfo, task: str) -> tuple[str, ...]:
    """The layers that a task modulates, input side first.

    Raises:
        UnknownTask: the memory has not learned it; the message lists those that it has.
        CannotInterpolate: a memory of this kind has no styles.
    """
    known = {each.task: each for each in memory.analysis}
    if task not in known:
        listed = f"the tasks are {', '.join(map(repr, known))}" if known else "it has learned none yet"
        raise UnknownTask(f"memory {memory.name!r} has no task {task!r}; {listed}")
    if known[task].gate != STYLE:
        raise CannotInterpolate(f"a memory of kind {memory.kind} has no styles; make one with kind='gan_memory'")
    return tuple(usage.layer for usage in known[task].layers)


def shown(
    memory: Memory, task: str, settings: Sequence[Setting], n: int, seed: int, label: Label | None = None
) -> Iterator[Shown]:
    """n samples under each setting.

    Arguments:
        seed: of the noise of all of them.
        label: of the class; None takes the first that the task learned.
    """
    for setting in settings:
        x: NDArray[Any] = memory.interpolate(
            None,
            task,
            setting.weight,
            n,
            seed=seed,
            classes=(None, label),
            groups=setting.groups or None,
            layers=setting.layers or None,
            dtype="float32",
        )
        yield Shown(setting, x)
