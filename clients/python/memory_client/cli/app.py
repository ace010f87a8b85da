"""The commands of `memoryctl` and how it ends: one clear line for an error, no traceback."""

from typing import Annotated

import click
import typer

from memory_client import MemoryServiceError
from memory_client.cli import learning, memories, sampling, tasks
from memory_client.cli.group import AnywhereGroup
from memory_client.cli.session import Session

FAILED, MISUSED, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    cls=AnywhereGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (learning, sampling, tasks, memories):
    module.register(app)


@app.callback()
def memoryctl(
    context: typer.Context,
    target: Annotated[str, typer.Option(envvar="MEMORY_TARGET", help="Address of the server.")] = "localhost:50051",
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


def run(arguments: list[str] | None = None) -> int:
    """Runs one command line (default: that of the process) and gives its exit status."""
    try:
        return int(app(arguments, prog_name="memoryctl", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as interrupt:
        return _interrupted(interrupt)
    except (MemoryServiceError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        return FAILED


def _interrupted(interrupt: BaseException) -> int:
    notes = getattr(interrupt, "__notes__", [])
    typer.echo("\n".join(["interrupted", *notes]), err=True)
    return INTERRUPTED
