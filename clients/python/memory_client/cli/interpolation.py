"""`memoryctl interpolate | styles`: what lies between two tasks, and what the parts of one task's style do."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from memory_client.cli.arrays import save
from memory_client.cli.sampling import Size, known_class, sides
from memory_client.cli.session import Session, parts, plotting, table
from memory_client.grid import draw_rows
from memory_client.styles import Shown, by_group, by_layer, shown, style_layers

_BASE = "-"
_SEEDS = 63
_GREY_LEVELS = 127.5
"""Of a picture, in one unit of a float in [-1, 1]."""

Seed = Annotated[int | None, typer.Option(min=0, help="The same seed gives the same examples.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (interpolate, styles):
        app.command()(command)


def interpolate(
    context: typer.Context,
    start: Annotated[str, typer.Argument(help="A task, or - for the frozen base.")],
    end: Annotated[str, typer.Argument(help="A task.")],
    weights: Annotated[str, typer.Option(help="0 is START, 1 is END.")] = "0,0.25,0.5,0.75,1",
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Examples of each weight.")] = 8,
    seed: Seed = None,
    start_class: Annotated[str | None, typer.Option(help="Class of START; else its first.")] = None,
    end_class: Annotated[str | None, typer.Option(help="Class of END; else its first.")] = None,
    groups: Annotated[str | None, typer.Option(help="Blend only these of scale,shift,bias.")] = None,
    layers: Annotated[str | None, typer.Option(help="Blend only in these layers, as in body.0,body.1.")] = None,
    size: Size = None,
    out: Annotated[Path | None, typer.Option(help="An .npz file for the arrays x and weights.")] = None,
    grid: Annotated[Path | None, typer.Option(help="An image file: one column per weight.")] = None,
) -> None:
    """Draw what lies between two tasks of a memory, the same noise in every column.

    Examples:

        memoryctl interpolate t0 t1 --weights 0,0.25,0.5,0.75,1 -n 8 --grid out.png -m pets

        memoryctl interpolate - t1 --groups scale --grid textures.png -m pets
    """
    if out is None and grid is None:
        raise typer.BadParameter("say where the samples go: --out samples.npz, --grid out.png, or both")
    if out is not None and out.suffix != ".npz":
        raise typer.BadParameter(f"{out} must end in .npz", param_hint="--out")
    given = _numbers(weights)
    chosen_groups, chosen_layers = parts(groups, "--groups"), parts(layers, "--layers")
    session = Session.of(context)
    memory = session.open()
    classes = (known_class(memory, start_class), known_class(memory, end_class))
    begin = "" if start == _BASE else start
    x = memory.interpolate(
        begin,
        end,
        given,
        n,
        seed=seed,
        classes=classes,
        groups=chosen_groups,
        layers=chosen_layers,
        size=sides(size),
    )
    if out is not None:
        save(out, x=x, weights=np.array(given))
    if grid is not None:
        draw_rows([("", x[:, row]) for row in range(n)], grid, [f"{weight:g}" for weight in given])
    files = {name: str(path) for name, path in (("out", out), ("grid", grid)) if path is not None}
    about = {"n": n, "shape": list(x.shape[2:]), "dtype": str(x.dtype), "seed": seed}
    result = {"start": begin, "end": end, "weights": given, **about, **files}
    between = f"between {begin or 'the base'} and {end}"
    session.show(result, f"{n} examples of {len(given)} weights {between} in {' and '.join(files.values())}")


def styles(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="A task of a memory that stands on a frozen base.")],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Examples of each row.")] = 8,
    seed: Seed = None,
    label: Annotated[str | None, typer.Option("--class", help="Class of the task; else its first.")] = None,
    plot: Annotated[Path | None, typer.Option(help="An image file to draw it into, such as styles.png.")] = None,
) -> None:
    """Show what the parts of a task's style do: switched on group by group, and layer after layer.

    What is off is as in the frozen base; the noise is the same throughout. The distances are mean differences of the
    samples from those of the base and from those of the task, in grey levels of 0 to 255.

    Examples:

        memoryctl styles t0 -m pets

        memoryctl styles t0 -n 10 --plot styles.png -m pets
    """
    session = Session.of(context)
    memory = session.open()
    layers = style_layers(memory.describe(), task)
    one, seed = known_class(memory, label), secrets.randbits(_SEEDS) if seed is None else seed
    groups = list(shown(memory, task, by_group(), n, seed, one))
    added = list(shown(memory, task, by_layer(layers), n, seed, one))
    if plot is not None:
        with plotting():
            from memory_client.style_figure import draw_styles  # noqa: PLC0415 - the extra may be missing
        draw_styles(f"Style of task {task} of memory {session.memory}, on its base", groups, added, plot)
    rows = _distances([*groups, *added], base=groups[0], whole=groups[-1])
    result = {"task": task, "n": n, "seed": seed, "rows": rows, **({"plot": str(plot)} if plot else {})}
    columns = ("on", "from the base", "from the task")
    cells = [(row["on"], *(f"{row[key]:.1f}" for key in ("from_base", "from_task"))) for row in rows]
    session.show(result, table(columns, cells, right=columns[1:]))


def _distances(rows: Sequence[Shown], base: Shown, whole: Shown) -> list[dict[str, object]]:
    return [
        {
            "on": row.setting.name,
            "groups": list(row.setting.groups),
            "layers": list(row.setting.layers),
            "from_base": _GREY_LEVELS * row.distance(base),
            "from_task": _GREY_LEVELS * row.distance(whole),
        }
        for row in rows
    ]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in parts(text, "--weights") or []]
    except ValueError:
        raise typer.BadParameter(f"{text!r} are no numbers; write them as in 0,0.5,1", param_hint="--weights") from None
