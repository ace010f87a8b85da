"""`memoryctl export | import`: memories as files, from server to server."""

from pathlib import Path
from typing import Annotated

import typer

from memory_client import Memory
from memory_client.cli.progress import Bars
from memory_client.cli.session import Session
from memory_client.progress import Quiet, TransferListener
from memory_client.quantities import quantity


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("export")(export_memory)
    app.command("import")(import_memory)


def export_memory(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the memory.")],
    path: Annotated[Path, typer.Argument(dir_okay=False, help="File to write; one that is there is replaced.")],
) -> None:
    """Write a memory into one file, from which any server makes the same memory, to the bit.

    The file is not encrypted, even if the server's own files are: keep it as you would keep the memory. It appears when
    it is whole.

    Example:

        memoryctl export digits digits.memory
    """
    session = Session.of(context)
    with Memory(session.target, name, **session.secrets) as memory:
        memory.export(path, progress=_listener(session))
    size = path.stat().st_size
    session.show({"exported": name, "path": str(path), "bytes": size}, f"exported {name} ({quantity(size, 'B')})")


def import_memory(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File that `export` wrote.")],
    name: Annotated[str, typer.Option(help="Name that the memory gets on this server.")],
) -> None:
    """Make a memory of an exported file, wholly or not at all.

    Example:

        memoryctl import digits.memory --name digits --target other:50051
    """
    session = Session.of(context)
    with Memory.import_file(session.target, path, name, progress=_listener(session), **session.secrets) as memory:
        made = memory.describe()
    session.show(made.to_dict(), f"imported {name}: {made.tasks} tasks, {len(made.classes)} classes")


def _listener(session: Session) -> TransferListener:
    return Bars(session.notes) if session.notes.is_terminal else Quiet()
