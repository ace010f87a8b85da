"""Training of a base on the terminal: a bar with the time that is left, or lines where there is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from dgm_core.manifest import DataSpec
from dgm_core.memory import Progress, Report, TaskData
from dgm_core.style.base import Base
from dgm_core.training.bases import design_of, train_base
from dgm_core.training.recipes import BASE
from memory_server.sampling.runtime import device

_LINES = 10
"""So often the way is told where there is no terminal."""


@dataclass(frozen=True)
class Wish:
    """What a base shall be; 0 takes the recipe's.

    Arguments:
        name: of the base.
        network, width, noise: of its design.
        steps, seconds: of training, whichever ends first.
        seed: whatever is random about training follows from it.
        source: what the data is, for people.
        device: where to compute, as in `runtime.device`.
        threads: of the processor; 0 leaves the choice to torch.
    """

    name: str
    network: str
    width: int
    noise: int
    steps: int
    seconds: float | None
    seed: int
    source: str
    device: str
    threads: int


def train(wish: Wish, data: TaskData, console: Console) -> Base:
    """Trains a base.

    Raises:
        CannotLearn: the design does not suit the data.
        CannotStart: the device is not to be had.
        TrainingDiverged: a loss became NaN or infinite.
    """
    if wish.threads:
        torch.set_num_threads(wish.threads)
    spec = DataSpec(tuple(data.x.shape[1:]), "uint8")
    design = design_of(spec, wish.network, wish.width or BASE.width, wish.noise or BASE.noise)
    with _shown(console) as report:
        return train_base(
            data,
            design,
            name=wish.name,
            steps=wish.steps or BASE.steps(len(data), len(data.classes)),
            seconds=wish.seconds,
            seed=wish.seed,
            source={"data": wish.source},
            report=report,
            device=device(wish.device),
        )


@contextmanager
def _shown(console: Console) -> Iterator[Report]:
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bars(*columns, console=console) as bars:
        bar = bars.add_task("", total=None)
        yield lambda progress: bars.update(
            bar, description=_left(progress), completed=progress.step, total=progress.steps
        )


def _lines(console: Console) -> Report:
    told = -1

    def report(progress: Progress) -> None:
        nonlocal told
        if int(_LINES * progress.fraction) > told:
            told = int(_LINES * progress.fraction)
            console.print(f"step {progress.step} of {progress.steps} {_left(progress)}", highlight=False)

    return report


def _left(progress: Progress) -> str:
    """Time left as people say it, such as "1:05:00 left"."""
    if progress.seconds_left is None:
        return ""
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left"
