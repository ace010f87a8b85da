"""`memoryctl growth`: how the tasks of a memory use its generator, how it grew, and what that takes on disk."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from memory_client.analysis import MASKS, STYLE, LayerUsage, TaskAnalysis
from memory_client.cli.session import Session, plotting, table
from memory_client.quantities import quantity
from memory_client.types import MemoryInfo

_COLUMNS = ("task", "new", "reused", "free", "size", "worst", "ratio", "values", "masks", "own", "disk")
_MASKS = (
    "new, reused, free: {}s; size, worst (case): weights of the generator; "
    "values, masks, own (norms, head, header), disk (their sum): bytes"
)
_OTHERS = (
    "new, reused, free: {}s; size, worst (case): parameters, and what they were had nothing been shared; "
    "values, masks, own, disk (their sum): bytes"
)
_STYLES = (
    "new: numbers that the task stores for scales and shifts; reused: those among them that weigh shared vectors; "
    "size: with its biases; worst (case): the same stored whole; values, own (biases, header), disk (their sum): bytes"
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(growth)


def growth(
    context: typer.Context,
    layers: Annotated[bool, typer.Option("--layers", help="Show the layers of each task as well.")] = False,
    plot: Annotated[Path | None, typer.Option(help="An image file to draw it into, such as growth.png.")] = None,
) -> None:
    """Show how the tasks of a memory use its generator, how it grew, and what they take on disk.

    Of each task, when it was learned: the weights or units, whichever its masks select, that it newly reserved, reused
    from earlier tasks and left free; the weights of the generator, what they were had every earlier task reserved all
    that was free, and their ratio; and the parts of the task's file. Of a task that modulates a frozen base: the style
    parameters that it stores, what they were if stored whole, and their ratio. Kinds that retrain a generator have
    nothing of the sort.

    Examples:

        memoryctl growth -m digits

        memoryctl growth --plot growth.png -m digits
    """
    session = Session.of(context)
    memory = session.open().describe()
    if plot is not None:
        _draw(memory, plot)
    session.show(memory.to_dict()["analysis"], _text(memory, layers))


def _draw(memory: MemoryInfo, path: Path) -> None:
    with plotting():
        from memory_client.growth import draw_growth  # noqa: PLC0415 - the extra may be missing
    draw_growth(memory, path)


def _text(memory: MemoryInfo, layers: bool) -> Table | str:
    if not memory.analysis:
        return "nothing has been learned yet"
    if not any(task.layers or task.bytes for task in memory.analysis):
        whole = f"all {memory.tasks} tasks together take {quantity(memory.bytes, 'B')} on disk"
        return f"{memory.kind} tells nothing of single tasks: {whole}"
    return _table(memory.analysis, layers)


def _table(tasks: Sequence[TaskAnalysis], layers: bool) -> Table:
    made = table(_COLUMNS, _rows(tasks, layers), right=_COLUMNS[1:])
    gate = tasks[-1].gate or "gate"
    made.caption = _STYLES if gate == STYLE else (_MASKS if gate in MASKS else _OTHERS).format(gate)
    made.caption_justify = "left"
    return made


def _rows(tasks: Sequence[TaskAnalysis], layers: bool) -> Iterator[tuple[str, ...]]:
    for task in tasks:
        used = _used(task.usage) if task.layers else ("", "", "")
        yield (task.task, *used, *_grown(task)) if task.layers or task.bytes else (task.task,)
        if layers:
            yield from ((f"  {layer.layer}", *_used(layer)) for layer in task.layers)
    yield ("all", *[""] * 6, *_texts(*map(sum, zip(*map(_bytes, tasks), strict=True))))


def _used(usage: LayerUsage) -> tuple[str, ...]:
    return _texts(usage.reserved, usage.reused, usage.free)


def _grown(task: TaskAnalysis) -> tuple[str, ...]:
    ratio = f"{task.parameters / task.worst_case:.2f}" if task.worst_case else ""
    return *_texts(task.parameters, task.worst_case), ratio, *_texts(*_bytes(task))


def _bytes(task: TaskAnalysis) -> tuple[int, ...]:
    return task.weight_bytes, task.mask_bytes, task.own_bytes, task.bytes


def _texts(*counts: int) -> tuple[str, ...]:
    return tuple(map(quantity, counts))
