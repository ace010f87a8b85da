"""`memoryctl memories | describe | classes | sleep | delete`: what a server holds."""

from typing import Annotated

import typer

from memory_client.cli.progress import Bars
from memory_client.cli.session import Session, confirm, table
from memory_client.progress import Quiet
from memory_client.quantities import quantity
from memory_client.types import MemoryInfo


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (memories, describe, classes, sleep, delete):
        app.command()(command)


def memories(context: typer.Context) -> None:
    """List the memories of the server."""
    session = Session.of(context)
    found = session.memories()
    columns = ("memory", "kind", "revision", "tasks", "classes", "shape", "size")
    session.show([memory.to_dict() for memory in found], table(columns, map(_row, found)))


def describe(context: typer.Context) -> None:
    """Describe one memory: its kind, options, shape, classes and size, and whether its solver is ready."""
    session = Session.of(context)
    memory = session.open().describe()
    rows = {**memory.to_dict(), "size": _size(memory.bytes), "shape": _shape(memory)}
    rows["classes"] = ", ".join(map(str, memory.classes))
    rows["options"] = ", ".join(f"{name}={value}" for name, value in sorted(memory.options.items()))
    rows["solver"] = "ready" if rows.pop("complete") else "being trained anew, since a task was forgotten"
    rows["tasks"] = (
        f"{memory.tasks}, {memory.consolidated} of them consolidated" if memory.consolidated else memory.tasks
    )
    del rows["bytes"], rows["analysis"], rows["consolidated"]
    session.show(memory.to_dict(), table(("", ""), rows.items()))


def classes(context: typer.Context) -> None:
    """List the classes that a memory has learned, one a line."""
    session = Session.of(context)
    found = session.open().classes
    session.show(list(found), "\n".join(map(str, found)) if found else "nothing has been learned yet")


def sleep(context: typer.Context) -> None:
    """Have a memory consolidate the tasks that it holds apart, and wait until it has; leaving does not wake it.

    Example:

        memoryctl sleep -m digits
    """
    session = Session.of(context)
    memory = session.open()
    left = memory.sleep(progress=Bars(session.notes) if session.notes.is_terminal else Quiet())
    session.show(left.to_dict(), f"memory {left.name} has slept: revision {left.revision}")


def delete(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a memory with all that it learned. This cannot be undone."""
    session = Session.of(context)
    memory = session.open()
    # Listed are all, of whatever kind; one that the server cannot describe can be deleted, too.
    known = None if yes else next((each for each in session.memories() if each.name == memory.name), None)
    if known is not None:
        confirm(f"Delete memory {memory.name!r} with its {known.tasks} tasks ({_size(known.bytes)}) for good?")
    memory.delete()
    session.show({"deleted": memory.name}, f"deleted {memory.name}")


def _row(memory: MemoryInfo) -> tuple[object, ...]:
    size = _size(memory.bytes)
    return memory.name, memory.kind, memory.revision, memory.tasks, len(memory.classes), _shape(memory), size


def _shape(memory: MemoryInfo) -> str:
    return f"{'×'.join(map(str, memory.shape))} {memory.dtype}"


def _size(nbytes: int) -> str:
    return quantity(nbytes, "B")
