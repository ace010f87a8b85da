"""`memoryctl sample`: synthetic examples into files."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from memory_client import Memory, UnknownClass
from memory_client.cli.arrays import save
from memory_client.cli.session import Session, parts
from memory_client.grid import draw_grid
from memory_client.types import Label, Layout

Size = Annotated[str | None, typer.Option(help="HEIGHTxWIDTH to resize images to, as in 32x32; else as learned.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(sample)


def sample(
    context: typer.Context,
    classes: Annotated[str | None, typer.Option(help="Only these classes, as in 0,1.")] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Examples in total, balanced over the classes.")] = 64,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same examples.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only what this task taught; may be repeated.")] = None,
    revision: Annotated[int | None, typer.Option(min=1, help="Of the memory; else the newest.")] = None,
    dtype: Annotated[str | None, typer.Option(help="uint8, float16 or float32; else as the memory gives them.")] = None,
    layout: Annotated[Layout | None, typer.Option(help="Of images: channels first, or last.")] = None,
    size: Size = None,
    reduced: Annotated[bool, typer.Option("--reduced", help="Compute in bfloat16, where that is faster.")] = False,
    out: Annotated[Path | None, typer.Option(help="An .npz file for the arrays x and y.")] = None,
    grid: Annotated[Path | None, typer.Option(help="An image file: one row per class.")] = None,
) -> None:
    """Draw synthetic examples of what a memory has learned.

    Examples:

        memoryctl sample --n 100 --grid out.png -m digits

        memoryctl sample --classes 0,1 --n 1000 --seed 7 --out samples.npz -m digits

        memoryctl sample --n 1000 --size 32x32 --dtype float32 --out samples.npz -m digits
    """
    if out is None and grid is None:
        raise typer.BadParameter("say where the samples go: --out samples.npz, --grid out.png, or both")
    if out is not None and out.suffix != ".npz":
        raise typer.BadParameter(f"{out} must end in .npz", param_hint="--out")
    session = Session.of(context)
    memory = session.open()
    chosen = known_classes(memory, parts(classes, "--classes"))
    x, y = memory.sample(
        chosen,
        n,
        seed=seed,
        tasks=task or None,
        revision=revision,
        dtype=dtype,
        layout=layout,
        size=sides(size),
        precision="reduced" if reduced else "full",
    )
    if out is not None:
        save(out, x=x, y=y)
    if grid is not None:
        draw_grid(np.moveaxis(x, 3, 1) if layout == "NHWC" else x, y, grid)
    counts = {str(label): count for label, count in sorted(Counter(y.tolist()).items())}
    files = {name: str(path) for name, path in (("out", out), ("grid", grid)) if path is not None}
    result = {"n": n, "shape": list(x.shape[1:]), "dtype": str(x.dtype), "classes": counts, "seed": seed, **files}
    session.show(result, f"{n} examples of {len(counts)} classes in {' and '.join(files.values())}")


def sides(text: str | None) -> tuple[int, int] | None:
    """Height and width from "32x48"; None if there is no text."""
    if text is None:
        return None
    try:
        height, width = map(int, text.lower().split("x"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no size; write it as in 32x32", param_hint="--size") from None
    return height, width


def known_class(memory: Memory, name: str | None) -> Label | None:
    """The memory's class that is written so; None if nothing is."""
    found = known_classes(memory, None if name is None else [name])
    return found[0] if found else None


def known_classes(memory: Memory, names: list[str] | None) -> list[Label] | None:
    """The memory's classes that are written so: on a command line, an integer and a string look alike."""
    if names is None:
        return None
    known = {str(label): label for label in memory.classes}
    for name in names:
        if name not in known:
            raise UnknownClass(
                f"memory {memory.name!r} has not learned class {name!r}; the classes are {', '.join(known)}"
            )
    return [known[name] for name in names]
