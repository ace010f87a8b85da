"""What every command shares: the server, the memory, and how results are printed."""

import json
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from memory_client import InvalidInput, Memory
from memory_client.types import MemoryInfo

_UNBOUNDED = 10_000


@dataclass(frozen=True)
class Session:
    """The options before or after any command.

    Arguments:
        target: address of the server.
        memory: name of the memory.
        as_json: whether standard output carries JSON for programs instead of text for people.
        secrets: `token`, `ca`, `certificate` and `key` for the connection.
    """

    target: str
    memory: str
    as_json: bool
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, context: typer.Context) -> "Session":
        """The session of a command."""
        session = context.find_object(cls)
        assert session is not None
        return session

    def open(self, kind: str | None = None, options: Mapping[str, str] | None = None) -> Memory:
        """The memory that the user named."""
        return Memory(self.target, self.memory, kind, options, **self.secrets)

    def memories(self) -> list[MemoryInfo]:
        """All memories of the server that the user may see."""
        return Memory.list(self.target, **self.secrets)

    @property
    def notes(self) -> Console:
        """For what people read beside the result: the error stream."""
        return Console(stderr=True)

    def show(self, result: Any, text: Any) -> None:
        """Prints a result: as JSON if that was asked for, else the text or table for people."""
        console = Console(soft_wrap=isinstance(text, str), emoji=False)
        if self.as_json:
            typer.echo(json.dumps(result))
        elif isinstance(text, str) and not console.is_terminal:
            typer.echo(text)  # as it is: rich would make spaces of tabs
        else:
            if not console.is_terminal:
                console.width = _UNBOUNDED  # a file has no width that a table would have to fit into
            console.print(text, highlight=False, markup=False)


def confirm(question: str) -> None:
    """Goes on if the user says yes.

    Raises:
        InvalidInput: there is nobody to ask.
        typer.Exit: the user says no.
    """
    try:
        sure = typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise InvalidInput("nobody answered: pass --yes where there is nobody to ask") from None
    if not sure:
        typer.echo("left as it is", err=True)
        raise typer.Exit(1)


def table(columns: Iterable[str], rows: Iterable[Iterable[object]], right: Container[str] = ()) -> Table:
    """A table of texts; what is None stays empty. The columns named in `right` are aligned to the right."""
    made = Table(box=None, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    for row in rows:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    return made


@contextmanager
def plotting() -> Iterator[None]:
    """Around an import of what draws with matplotlib: says what to install where that is missing.

    Raises:
        InvalidInput: it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        raise InvalidInput("--plot needs matplotlib: pip install 'generative-memory[plot]'") from None


def parts(text: str | None, option: str) -> list[str] | None:
    """The parts of "a,b,c", given to an option; None if there is no text. Raises BadParameter if it holds none."""
    if text is None:
        return None
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise typer.BadParameter("name at least one, or leave the option out", param_hint=option)
    return found
