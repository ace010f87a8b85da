"""What is to be known of a base, and a picture of what it draws."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory_client.cli.session import table
from memory_client.quantities import quantity
from rich.table import Table

from dgm_core.manifest import DataSpec
from dgm_core.style.base import Base
from dgm_core.style.foundation import Foundation
from dgm_core.style.library import BaseFile, Library

_COLUMNS = ("name", "digest", "shape", "network", "parameters", "style", "size", "from")
_ROWS = 8
"""The grid is so many samples high and wide."""


@dataclass(frozen=True)
class Facts:
    """One file of a library; where it is no base, `problem` says why and what is only known of bases is empty.

    Arguments:
        bytes: size of the file.
        style_parameters: what a task of one class stores that keeps every statistic.
        design, trained: see `Base`.
    """

    name: str
    digest: str
    shape: tuple[int, ...]
    network: str
    parameters: int
    style_parameters: int
    bytes: int
    shipped: bool
    file: str
    problem: str
    design: dict[str, Any]
    trained: dict[str, Any]

    @classmethod
    def of(cls, file: BaseFile) -> "Facts":
        """All about one file, which is read for it."""
        try:
            base = None if file.problem else file.read()
        except (OSError, ValueError) as error:
            return cls.of(file.broken(str(error)))
        return cls(
            name=file.name,
            digest=file.digest,
            shape=file.shape,
            network=base.design.network if base else "",
            parameters=base.parameters if base else 0,
            style_parameters=_style(base) if base else 0,
            bytes=file.nbytes,
            shipped=file.shipped,
            file=str(file.path),
            problem=file.problem,
            design=asdict(base.design) if base else {},
            trained=dict(base.trained) if base else {},
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> Table:
        """For people, one fact a line."""
        trained = [(f"trained: {key}", value) for key, value in self.trained.items()]
        design = [(key, value) for key, value in self.design.items() if key not in ("network", "shape")]
        facts = (
            ("name", self.name),
            ("digest", self.digest),
            ("file", f"{self.file}, {quantity(self.bytes, 'B')}{', shipped' if self.shipped else ''}"),
            ("images", _by(self.shape)),
            ("network", self.network),
            *design,
            ("parameters", self.parameters),
            ("style of a task", f"{self.style_parameters} parameters"),
            *trained,
        )
        made = Table.grid(padding=(0, 2))
        for name, value in facts:
            made.add_row(name, str(value))
        return made

    def row(self) -> tuple[str, ...]:
        """For the list."""
        whose = "shipped" if self.shipped else "own"
        if self.problem:
            return self.name, "broken", *[""] * 4, quantity(self.bytes, "B"), f"{whose}: {self.problem}"
        counts = quantity(self.parameters), quantity(self.style_parameters), quantity(self.bytes, "B")
        file = Path(self.file)
        place = whose if file.stem == self.name else f"{whose}: {file.name}"
        return self.name, self.digest[:12], _by(self.shape), self.network, *counts, place


def listed(library: Library) -> list[Facts]:
    """All files of a library."""
    return [Facts.of(file) for file in library]


def overview(facts: list[Facts]) -> Table:
    """A table of bases."""
    return table(_COLUMNS, (each.row() for each in facts), right=("parameters", "style", "size"))


def draw(base: Base, path: Path) -> None:
    """Draws samples of a base into an image file."""
    from memory_client.grid import draw_grid  # noqa: PLC0415 - needs pillow, an extra

    network = base.design.generator(_spec(base), 1)
    network.load_state_dict(dict(base.generator))
    z = torch.randn(_ROWS * _ROWS, base.design.noise, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = torch.cat([network.eval()(some, torch.zeros(len(some), dtype=torch.long)) for some in z.split(_ROWS)])
    draw_grid(x.numpy(), np.repeat(np.arange(1, _ROWS + 1), _ROWS), path)


def _style(base: Base) -> int:
    return sum(t.numel() for t in Foundation(base, _spec(base)).style.values())


def _spec(base: Base) -> DataSpec:
    return DataSpec(base.design.shape, "uint8")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
