"""The commands `memory-server base train | import | list | show`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from memory_server.settings import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from dgm_core.style.base import Base
    from memory_server.bases.place import Place

_UNBOUNDED = 10_000
_LARGEST_SEED = 2**63 - 1

Name = Annotated[str, typer.Option(help="Of the base: 1 to 100 letters, digits, '.', '_' and '-'.")]
DataDirectory = Annotated[
    Path, typer.Option(envvar=f"{ENVIRONMENT_PREFIX}DATA_DIR", help="The server's; bases are in DATA_DIR/bases.")
]
Out = Annotated[Path | None, typer.Option(help="A .safetensors file to write instead of one in DATA_DIR/bases.")]
Replace = Annotated[bool, typer.Option("--replace", help="Overwrite the base of this name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_HERE = Path("memory-data")

base = typer.Typer(
    help="Make and look at frozen bases, on which memories of kind gan_memory stand.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@base.command()
def train(
    name: Name,
    data: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, help="Folders of class folders, .parquet tables, .npz files with x and y."),
    ] = None,
    images: Annotated[Path | None, typer.Option(exists=True, help="IDX file of images, as MNIST's.")] = None,
    labels: Annotated[Path | None, typer.Option(exists=True, help="IDX file of their labels.")] = None,
    size: Annotated[int | None, typer.Option(min=8, max=256, help="Resize images to so many pixels a side.")] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Turn colour images grey.")] = False,
    network: Annotated[str, typer.Option(help="dcgan, residual or gpgan.")] = "dcgan",
    width: Annotated[int, typer.Option(min=0, max=512, help="Of the generator; 0: the recipe's.")] = 0,
    noise: Annotated[int, typer.Option(min=0, max=4096, help="Length of z; 0: the recipe's.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Training steps of the generator; 0: the recipe's.")] = 0,
    seconds: Annotated[float | None, typer.Option(min=1, help="Bound on the training.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=_LARGEST_SEED, help="Of the training.")] = 0,
    source: Annotated[str, typer.Option(help="What the data is, for the file; else its file names.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: CUDA if there is any.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="Of the processor; 0: as many as it has cores.")] = 0,
    out: Out = None,
    data_dir: DataDirectory = _HERE,
    replace: Replace = False,
) -> None:
    """Train a base on public data: images of many kinds, with their classes.

    The classes only help training. The data is read as memoryctl learn reads it, and is not kept.
    """
    with _failing():
        from memory_server.bases.data import Selection  # noqa: PLC0415 - loads torch, which takes seconds
        from memory_server.bases.place import Place  # noqa: PLC0415
        from memory_server.bases.training import Wish, train  # noqa: PLC0415

        place = Place.of(name, out, data_dir, replace=replace)
        place.check()
        files = [*(data or []), *([images] if images else [])]
        wish = Wish(
            name=name,
            network=network,
            width=width,
            noise=noise,
            steps=steps,
            seconds=seconds,
            seed=seed,
            source=source or ", ".join(path.name for path in files),
            device=device,
            threads=threads,
        )
        _keep(train(wish, Selection(data or [], images, labels, size, grey).read(), Console(stderr=True)), place)


@base.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A published GP-GAN checkpoint.")],
    name: Name,
    out: Out = None,
    data_dir: DataDirectory = _HERE,
    replace: Replace = False,
) -> None:
    """Make a base of a published GP-GAN checkpoint; no code in it is run."""
    with _failing():
        from dgm_core.style.importing import import_base  # noqa: PLC0415
        from memory_server.bases.place import Place  # noqa: PLC0415

        place = Place.of(name, out, data_dir, replace=replace)
        _keep(import_base(checkpoint, name), place)


@base.command("list")
def list_(data_dir: DataDirectory = _HERE, as_json: Json = False) -> None:
    """List the shipped bases and those of a data directory, with files that cannot be used and why."""
    with _failing():
        from dgm_core.style.library import Library  # noqa: PLC0415
        from memory_server.bases.facts import listed, overview  # noqa: PLC0415
        from memory_server.store.datadir import BASES  # noqa: PLC0415

        found = listed(Library(data_dir / BASES))
        _show([each.to_dict() for each in found], overview(found) if found else "there are no bases", as_json=as_json)


@base.command()
def show(
    name: Annotated[str, typer.Argument(help="Of a base, or at least eight digits of its digest.")],
    grid: Annotated[Path | None, typer.Option(help="An image file to draw 64 samples into.")] = None,
    data_dir: DataDirectory = _HERE,
    as_json: Json = False,
) -> None:
    """Show all that is known of a base, how it was trained included."""
    with _failing():
        from dgm_core.style.library import Library  # noqa: PLC0415
        from memory_server.bases.facts import Facts, draw  # noqa: PLC0415
        from memory_server.store.datadir import BASES  # noqa: PLC0415

        file = Library(data_dir / BASES).file(name)
        facts = Facts.of(file)
        if grid is not None:
            draw(file.read(), grid)
        _show(facts.to_dict(), facts.text(), as_json=as_json)


@contextmanager
def _failing() -> Iterator[None]:
    """Says in one line why a command ends: status 2, and 130 after Ctrl-C."""
    from memory_client import MemoryServiceError  # noqa: PLC0415

    from memory_server.errors import MemoryServerError  # noqa: PLC0415

    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        _end("this needs pillow: pip install 'generative-memory[server,cli]'", 2)
    except (MemoryServiceError, MemoryServerError, ValueError, RuntimeError, OSError) as error:
        _end(str(error), 2)
    except KeyboardInterrupt:
        _end("interrupted; nothing was written", 130)


def _end(message: str, status: int) -> None:
    print(f"memory-server base: {message}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(status) from None


def _keep(made: "Base", place: "Place") -> None:
    from memory_client.quantities import quantity  # noqa: PLC0415

    place.write(made)
    size = f"{quantity(len(made.file), 'B')}, {quantity(made.parameters)} parameters"
    print(f"{made.name} {made.digest} {size}: {place.path}")  # noqa: T201


def _show(result: Any, text: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    console = Console(soft_wrap=isinstance(text, str))
    if not console.is_terminal:
        console.width = _UNBOUNDED  # a file has no width that a table would have to fit into
    console.print(text, highlight=False, markup=False)
