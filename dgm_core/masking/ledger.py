"""The ledger of shared weights: which entry was written by which task, and which tasks read it.

A task adds one page: its hard masks, and the values of the entries that it newly reserved (m^t ∧ ¬m^{<t}). Nothing else
is stored; free entries are initialised anew for every task. Pages are only ever appended, so that the effective weights
m^t∘W of an old task are the same bits for ever (invariant I1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from dgm_core.masking.reservation import Masks


@dataclass(frozen=True)
class Page:
    """What one task wrote.

    Arguments:
        masks: m^t by weight name, boolean, in the shape that the weights had then.
        values: newly reserved entries by weight name, float32, in row-major order.
    """

    masks: Masks
    values: Mapping[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """For a file: masks packed to bits as uint8, with their shapes, and values."""
        packed: dict[str, Tensor] = {}
        for name, mask in self.masks.items():
            bits = np.packbits(mask.cpu().numpy().reshape(-1))
            packed[f"mask/{name}"] = torch.from_numpy(bits)
            packed[f"shape/{name}"] = torch.tensor(mask.shape, dtype=torch.int32)
            packed[f"values/{name}"] = self.values[name].cpu().contiguous()
        return packed

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Page":
        """The inverse of `tensors`; other entries are ignored."""
        names = [key.removeprefix("mask/") for key in tensors if key.startswith("mask/")]
        masks = {name: _unpack(tensors[f"mask/{name}"], tensors[f"shape/{name}"]) for name in names}
        return cls(masks, {name: tensors[f"values/{name}"] for name in names})


class Ledger:
    """Shared weights W and the union m^{≤t} of all masks, rebuilt from the pages of all tasks so far."""

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.weights: dict[str, Tensor] = {}
        self.reserved: dict[str, Tensor] = {}

    def copy(self) -> "Ledger":
        """A ledger of its own with the same pages."""
        ledger = Ledger()
        for page in self.pages:
            ledger.append(page)
        return ledger

    def append(self, page: Page) -> None:
        """Takes one more task in; the weights grow to its shapes first."""
        self.grow({name: tuple(mask.shape) for name, mask in page.masks.items()})
        for name, mask in page.masks.items():
            new = mask & ~self.reserved[name]
            self.weights[name][new] = page.values[name]
            self.reserved[name] |= mask
        self.pages.append(page)

    def grow(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Enlarges weights and reservations; old entries keep their places in the leading corner."""
        for name, shape in shapes.items():
            self.weights[name] = _enlarged(self.weights.get(name, torch.empty(0)), shape)
            self.reserved[name] = _enlarged(self.reserved.get(name, torch.empty(0, dtype=torch.bool)), shape)

    def page(self, masks: Masks, weights: Mapping[str, Tensor]) -> Page:
        """The page that a task writes: its masks, and what they newly reserve."""
        values = {name: weights[name].detach()[mask & ~self.reserved[name]] for name, mask in masks.items()}
        return Page(masks, values)

    def effective(self, index: int) -> dict[str, Tensor]:
        """m^t∘W of the task `index`, in the shapes of its time  [DGM eq. 1]."""
        masks = self.pages[index].masks
        return {
            name: torch.where(mask, self.weights[name][_corner(tuple(mask.shape))], 0.0) for name, mask in masks.items()
        }

    def usage(self, index: int) -> dict[str, dict[str, int]]:
        """Per weight: how many entries the task newly reserved, how many it reused, and the size at its time."""
        return {
            name: {
                "new": self.pages[index].values[name].numel(),
                "reused": int(mask.sum()) - self.pages[index].values[name].numel(),
                "size": mask.numel(),
            }
            for name, mask in self.pages[index].masks.items()
        }


def _unpack(bits: Tensor, shape: Tensor) -> Tensor:
    extents = tuple(shape.tolist())
    flat = np.unpackbits(bits.numpy(), count=prod(extents))
    return torch.from_numpy(flat.astype(bool)).reshape(extents)


def _enlarged(old: Tensor, shape: tuple[int, ...]) -> Tensor:
    new = torch.zeros(shape, dtype=old.dtype)
    if old.numel():
        new[_corner(tuple(old.shape))] = old
    return new


def _corner(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, extent) for extent in shape)
