"""The commands of `memoryctl` and what they share."""

from typing import Annotated

import typer

from memory_client.cli import growth, interpolation, learning, memories, sampling, tasks, transfers
from memory_client.cli.group import CommandGroup
from memory_client.cli.session import Session

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (learning, sampling, interpolation, tasks, memories, transfers, growth):
    module.register(app)


@app.callback()
def memoryctl(
    context: typer.Context,
    target: Annotated[
        str, typer.Option(envvar="MEMORY_TARGET", help="Address of the server: HOST:PORT, or unix:/PATH.")
    ] = "localhost:50051",
    memory: Annotated[
        str, typer.Option("--memory", "-m", envvar="MEMORY_NAME", help="Name of the memory.")
    ] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs on standard output.")] = False,
) -> None:
    """Teach, watch and sample the generative memories of a server.

    These options may stand before or after any command.

    Examples:

        memoryctl learn digits.npz --task t0 -m digits

        memoryctl sample --classes 0,1 --n 40 --grid out.png -m digits

        memoryctl tasks -m digits --json
    """
    context.obj = Session(target, memory, as_json)
