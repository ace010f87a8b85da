"""`memoryctl classify`: what a memory takes examples for."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Group, RenderableType

from memory_client._batches import batch
from memory_client.cli.arrays import save
from memory_client.cli.session import Session, table
from memory_client.errors import InvalidInput
from memory_client.files import Examples, read_examples, read_idx

DATA = "An .npz with x, a folder of images or of class folders, a .parquet table, or an IDX file of images."


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(classify)


def classify(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(exists=True, help=DATA)],
    task: Annotated[str | None, typer.Option(help="The learned task that the examples are of, if known.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Resize image files to so many pixels a side.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="An .npz file for the labels y, the probabilities p and their classes.")
    ] = None,
) -> None:
    """Label examples with the memory's own solver; where the data has labels, say how many are right.

    Examples:

        memoryctl classify scans.npz -m digits

        memoryctl classify photos/ --size 32 --out labels.npz -m pets
    """
    if out is not None and out.suffix != ".npz":
        raise typer.BadParameter(f"{out} must end in .npz", param_hint="--out")
    session = Session.of(context)
    memory = session.open()
    classes = memory.classes if task is None else memory.task(task).task.classes
    labels, probabilities, right = [], [], []
    for examples, named in _examples(data, size):
        x, known = (examples, None) if named is None else batch((examples, named))
        y, p = memory.classify(x, task)
        labels.append(y)
        probabilities.append(p)
        if known is not None:
            right.append(y.astype(np.str_) == known.astype(np.str_))
    found = np.concatenate(labels)
    if out is not None:
        save(out, y=found, p=np.concatenate(probabilities), classes=np.asarray(classes))
    counts = Counter(map(str, found.tolist()))
    accuracy = float(np.concatenate(right).mean()) if right else None
    rows = ((str(label), counts[str(label)]) for label in classes)
    told: list[RenderableType] = [table(("class", "examples"), rows, right={"examples"})]
    if accuracy is not None:
        told.append(f"{accuracy:.2%} of {len(found)} as the data has them")
    session.show({"n": len(found), "classes": dict(counts), "accuracy": accuracy}, Group(*told))


def _examples(data: Path, size: int | None) -> Iterator[Examples]:
    found = read_examples(data, size)
    if found is not None:
        return found
    x = read_idx(data)
    if x.ndim != 3:
        raise InvalidInput(f"{data} holds shape {x.shape}: expected (n, H, W) images")
    return iter([(x[:, None], None)])
