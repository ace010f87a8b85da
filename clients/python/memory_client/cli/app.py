"""The commands of `memoryctl` and what they share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from memory_client import InvalidInput
from memory_client.cli import (
    classification,
    growth,
    interpolation,
    learning,
    memories,
    sampling,
    tasks,
    transfers,
)
from memory_client.cli.group import CommandGroup
from memory_client.cli.session import Session
from memory_client.cli.version import Version

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (learning, sampling, classification, interpolation, tasks, memories, transfers, growth):
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
    token_file: Annotated[
        Path | None,
        typer.Option(help="File that holds your token; else the variable MEMORY_TOKEN is the token."),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(envvar="MEMORY_CA", help="PEM authorities of the server's certificate: speak TLS.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(envvar="MEMORY_CERTIFICATE", help="Your PEM certificate, if the server wants one.")
    ] = None,
    key: Annotated[Path | None, typer.Option(envvar="MEMORY_KEY", help="PEM private key of your certificate.")] = None,
    version: Version = False,  # noqa: ARG001 - says it before this is called
) -> None:
    """Teach, watch and sample the generative memories of a server.

    These options may stand before or after any command.

    Examples:

        memoryctl learn digits.npz --task t0 -m digits

        memoryctl sample --classes 0,1 --n 40 --grid out.png -m digits

        memoryctl tasks -m digits --json
    """
    secrets = {"token": _token(token_file), "ca": ca, "certificate": certificate, "key": key}
    context.obj = Session(target, memory, as_json, secrets)


def _token(file: Path | None) -> str | None:
    # Never an argument: command lines can be read by everybody on a host.
    if file is None:
        return os.environ.get("MEMORY_TOKEN") or None
    try:
        return file.read_text("ascii").strip()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{file} is no plain text: write the token into it as `memory-server token add` printed it"
        ) from None
