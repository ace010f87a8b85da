"""`--version`, as both commands of the project have it."""

from importlib.metadata import version
from typing import Annotated

import typer


def _say(context: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo(f"{context.info_name} {version('generative-memory')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_say, is_eager=True, help="Say which version this is, and end.")
]
"""The type of the option in a group of commands, where False is its default."""
