"""Batches of real data, mixed with balanced replay of what a memory knows."""

import warnings
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memory_client._requests import Classes
from memory_client.errors import InvalidInput
from memory_client.memory import Memory
from memory_client.torch.dataset import ReplayDataset


def mixed(
    loader: Iterable[Any],
    memory: Memory,
    replay: float = 0.5,
    classes: Classes = None,
    *,
    seed: int | None = None,
    tasks: str | Sequence[str] | None = None,
    revision: int | None = None,
) -> "Mixed":
    """A loader's batches, each with so many synthetic rows added that they are the share `replay` of it, and shuffled.

        for x, y in mixed(loader, memory, replay=0.5):  # 64 real and 64 synthetic rows, if the loader gives 64
            train_step(x, y)

    Arguments:
        loader: gives pairs of tensors: x of the memory's shape, uint8 or, of any floating dtype, images in [-1, 1] or
            vectors; y (n,), labels as the memory has them, or where those are strings, indices into `classes`.
        replay: in (0, 1), kept to ±1 row from the first batch to the last.
        classes: what to replay, balanced to ±1; None for all that the memory knows now.
        seed: makes replay and order a function of it; each further pass is another one.
        tasks, revision: as for `memory.stream`.

    Returns:
        An iterable with the loader's length, whose batches have the loader's dtypes and devices.

    Raises:
        EmptyMemory, InvalidInput: as `ReplayDataset` does; InvalidInput also, when iterated, where batches do not fit.
    """
    if not 0 < replay < 1:
        raise InvalidInput(f"replay is {replay}: pass the share of synthetic rows in a batch, between 0 and 1")
    known = ReplayDataset(memory, classes, seed=seed, tasks=tasks, revision=revision)
    return Mixed(loader, known, replay / (1 - replay), seed)


class Mixed(Iterable[tuple[Tensor, Tensor]]):
    """See `mixed`, which makes it."""

    def __init__(self, loader: Iterable[Any], known: ReplayDataset, ratio: float, seed: int | None) -> None:
        self._loader = loader
        self._known = known
        self._ratio = ratio
        self._seeds = np.random.SeedSequence(seed)
        self._seeded = seed is not None

    def __len__(self) -> int:
        """Batches of one pass. Raises TypeError where the loader does not know."""
        if not isinstance(self._loader, Sized):
            raise TypeError(f"the loader, a {type(self._loader).__name__}, has no length")
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        (seeds,) = self._seeds.spawn(1)  # of this pass
        replay_seed, order_seed = seeds.generate_state(2, np.uint64).tolist()
        order = torch.Generator().manual_seed(order_seed)
        supply, seen = None, 0
        for pair in self._loader:
            x, y = _checked(pair)
            due, seen = self._due(seen, len(x)), seen + len(x)
            if supply is None:
                supply = self._supply(x, max(1, due), replay_seed if self._seeded else None)
            yield _shuffled((x, y), supply.take(due), order)

    def _due(self, seen: int, more: int) -> int:
        """Synthetic rows that go with `more` real ones after `seen`."""
        return int((seen + more) * self._ratio + 0.5) - int(seen * self._ratio + 0.5)

    def _supply(self, x: Tensor, batch_size: int, seed: int | None) -> "_Supply":
        shape = self._known.shape
        if x.shape[1:] != shape:
            raise InvalidInput(
                f"the loader's x has rows of {tuple(x.shape[1:])}, the memory's {shape}: resize the real ones"
            )
        if x.dtype != torch.uint8 and len(shape) == 3:
            _check_range(x)
        return _Supply(self._known.varied(batch_size, seed, torch.uint8 if x.dtype == torch.uint8 else torch.float32))


class _Supply:
    """Any number of rows at a time from the batches of a data set."""

    def __init__(self, dataset: ReplayDataset) -> None:
        self._batches = iter(dataset)
        self._rest: list[tuple[Tensor, Tensor]] = []

    def take(self, rows: int) -> tuple[Tensor, Tensor]:
        """The next rows."""
        while sum(len(y) for _, y in self._rest) < max(1, rows):
            self._rest.append(next(self._batches))
        x, y = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*self._rest, strict=True))
        self._rest = [(x[rows:], y[rows:])] if rows < len(y) else []
        return x[:rows], y[:rows]


def _checked(pair: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(each, Tensor) for each in pair):
        raise InvalidInput(f"the loader gives {type(pair).__name__}: every batch is a pair (x, y) of tensors")
    x, y = pair
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise InvalidInput(f"the loader's x has dtype {x.dtype}: give uint8 images, or floats (images in [-1, 1])")
    if y.shape != x.shape[:1]:
        raise InvalidInput(
            f"the loader's y has shape {tuple(y.shape)} beside {len(x)} rows of x: give one label a row, (n,)"
        )
    return x, y


def _check_range(x: Tensor) -> None:
    least, most = x.min().item(), x.max().item()
    found = f"the loader's x runs from {least:.3g} to {most:.3g}, and the memory's images lie in [-1, 1]"
    if least < -1 or most > 1:
        raise InvalidInput(f"{found}: scale the real ones likewise, as in pixels / 127.5 - 1")
    if least >= 0:
        warnings.warn(f"{found}: if the real ones are scaled to [0, 1], make it 2 * x - 1", stacklevel=2)


def _shuffled(
    real: tuple[Tensor, Tensor], synthetic: tuple[Tensor, Tensor], order: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Both together, each row written once into its place."""
    places = torch.randperm(len(real[1]) + len(synthetic[1]), generator=order)
    x, y = (_placed(*pair, places) for pair in zip(real, synthetic, strict=True))
    return x, y


def _placed(real: Tensor, synthetic: Tensor, places: Tensor) -> Tensor:
    together = real.new_empty((len(places), *real.shape[1:]))
    places = places.to(real.device)
    together[places[: len(real)]] = real
    together[places[len(real) :]] = synthetic.to(together)
    return together
