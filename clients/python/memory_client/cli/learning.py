"""`memoryctl learn`: data from files into a memory."""

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from memory_client import Task, TaskHandle
from memory_client.cli.progress import Bars
from memory_client.cli.session import Session, parts
from memory_client.files import Batch, only_classes, read_data, read_mnist
from memory_client.progress import ProgressListener, Quiet, describe
from memory_client.types import Until


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(learn)


def learn(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(exists=True, help="An .npz with x and y, a folder of class folders, or a .parquet table."),
    ] = None,
    images: Annotated[Path | None, typer.Option(exists=True, help="IDX file of images, as MNIST's.")] = None,
    labels: Annotated[Path | None, typer.Option(exists=True, help="IDX file of their labels.")] = None,
    task: Annotated[str, typer.Option(help="Name of the task.")] = "t0",
    class_filter: Annotated[str | None, typer.Option(help="Only these classes of the data, as in 0,1.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Resize image files to so many pixels a side.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Bound on the generator's training steps.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Bound on the whole task.")] = None,
    min_quality: Annotated[
        float | None, typer.Option(min=0, max=1, help="Reverse accuracy below which the task fails instead.")
    ] = None,
    erasable: Annotated[
        bool, typer.Option("--erasable", help="Let no later task build on it, so that it can always be forgotten.")
    ] = False,
    revises: Annotated[
        str | None, typer.Option(help="Name of the task that this one repeats, in a memory of kind dual.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Of the memory, if this creates it: dgmw (default), dgma, gan_memory, dual, mergan, dgr."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of that kind, as in recipe=paper; may be repeated.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is learned, or leave when the data is sent.")] = True,
) -> None:
    """Teach a memory one task; the server keeps none of the data.

    Examples:

        memoryctl learn digits.npz --task t0 -m digits

        memoryctl learn photos/ --task pets --size 32 -m pets --kind gan_memory --option styles=lowrank

        memoryctl learn --images train-images.gz --labels train-labels.gz --class-filter 0,1 --task t0
    """
    session = Session.of(context)
    names = parts(class_filter, "--class-filter")
    stream: Any = _source(data, images, labels, size)
    if names is not None:
        stream = only_classes([stream] if isinstance(stream, tuple) else stream, names)
    memory = session.open(kind, _options(option or []))
    handle = memory.learn_task(
        stream,
        task,
        steps=steps,
        seconds=seconds,
        min_quality=min_quality,
        erasable=erasable,
        revises=revises,
        wait=False,
        progress=_listener(session),
    )
    if wait:
        return show_end(session, handle)
    admitted = handle.task
    return session.show(
        admitted.to_dict(), f"{describe(admitted)}\nfollow it: memoryctl watch {task} -m {session.memory}"
    )


def show_end(session: Session, handle: TaskHandle, until: Until = "final") -> None:
    """Waits for a task with bars and prints how it ended; an interrupt leaves it running.

    Arguments:
        until: as for `TaskHandle.watch`.
    """
    try:
        task: Task = handle.show(_listener(session))
        if until == "consolidated":
            task = deque(handle.watch(until=until), maxlen=1).pop()
    except KeyboardInterrupt as interrupt:
        where = f"{handle.name} -m {handle.memory} --target {session.target}"
        interrupt.__notes__ = [
            f"task {handle.name} goes on: memoryctl watch {where} follows it, memoryctl cancel stops it"
        ]
        raise
    session.show(task.to_dict(), describe(task))


def _listener(session: Session) -> ProgressListener:
    return Bars(session.notes) if session.notes.is_terminal else Quiet()


def _source(data: Path | None, images: Path | None, labels: Path | None, size: int | None) -> Batch | Iterable[Batch]:
    if data is None:
        if images is None or labels is None:
            raise typer.BadParameter("name the data: an .npz, a folder, a .parquet, or both --images and --labels")
        return read_mnist(images, labels)
    if images is not None or labels is not None:
        raise typer.BadParameter("name either DATA or --images and --labels, not both")
    found = read_data(data, size)
    if found is None:
        raise typer.BadParameter(
            f"{data} is neither an .npz nor a .parquet nor a folder; IDX files go by --images and --labels"
        )
    return found


def _options(given: list[str]) -> dict[str, str]:
    options = dict(each.partition("=")[::2] for each in given if "=" in each)
    if len(options) != len(given):
        raise typer.BadParameter("options are written NAME=VALUE, each name once", param_hint="--option")
    return options
