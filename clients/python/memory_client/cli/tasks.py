"""`memoryctl tasks | watch | cancel | forget`: what a memory has learned and is learning."""

from typing import Annotated

import typer

from memory_client.cli.learning import show_end
from memory_client.cli.session import Session, confirm, table
from memory_client.progress import describe, waiting
from memory_client.types import Task, Until

Name = Annotated[str, typer.Argument(help="Name of the task.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (tasks, watch, cancel, forget):
        app.command()(command)


def tasks(context: typer.Context) -> None:
    """List the tasks of a memory, in the order in which they were admitted."""
    session = Session.of(context)
    found = session.open().tasks()
    columns = ("task", "state", "classes", "examples", "quality", "seconds", "note")
    session.show([task.to_dict() for task in found], table(columns, map(_row, found)))


def watch(
    context: typer.Context,
    task: Name,
    until: Annotated[
        Until, typer.Option(help="Its final state, or, in a memory that sleeps, that it is consolidated.")
    ] = "final",
) -> None:
    """Follow a task until it ends; leaving does not stop it.

    Examples:

        memoryctl watch t0 -m digits

        memoryctl watch t0 -m birds --until consolidated
    """
    session = Session.of(context)
    show_end(session, session.open().task(task), until)


def cancel(context: typer.Context, task: Name) -> None:
    """Cancel a task that is queued or learning; its data is wiped.

    Example:

        memoryctl cancel t0 -m digits
    """
    session = Session.of(context)
    ended = session.open().task(task).cancel()
    session.show(ended.to_dict(), describe(ended))


def forget(
    context: typer.Context,
    task: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Erase a task for good, with every revision that holds it. What else was learned stays as it is.

    Example:

        memoryctl forget t0 -m digits
    """
    session = Session.of(context)
    memory = session.open()
    if not yes:
        known = memory.task(task).task
        classes = ", ".join(map(str, known.classes))
        confirm(f"Forget task {task!r} of memory {memory.name!r} ({known.state}, classes {classes}) for good?")
    left = memory.forget(task)
    text = f"forgot {task}" if left.complete else f"forgot {task}; the solver is being trained anew"
    session.show({"forgotten": task, "memory": left.to_dict()}, text)


def _row(task: Task) -> tuple[object, ...]:
    progress = f"{task.progress.phase} {task.progress.fraction:.0%}" if task.progress else ""
    quality = None if task.quality is None else f"{task.quality:.3f}"
    seconds = f"{task.learn_seconds:.1f}" if task.learn_seconds else None
    classes = ", ".join(map(str, task.classes))
    note = task.error or waiting(task) or progress or ("consolidated" if task.consolidated else "")
    return task.name, task.state, classes, task.count, quality, seconds, note
