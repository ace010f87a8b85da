"""The commands `memory-server token add | list | revoke`."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from memory_server.errors import CannotStart
from memory_server.security import tokens
from memory_server.security.rights import Right
from memory_server.settings import ENVIRONMENT_PREFIX

_PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,100}")

TokensFile = Annotated[
    Path, typer.Option("--tokens", envvar=f"{ENVIRONMENT_PREFIX}TOKENS", help="The server's file of tokens, mode 0600.")
]
Name = Annotated[str, typer.Option(help="Of the token: who holds it. It is in the audit log.")]

token = typer.Typer(help="Make, list and revoke the tokens that clients show.", no_args_is_help=True)


@token.command()
def add(
    tokens_file: TokensFile,
    name: Name,
    memory: Annotated[list[str], typer.Option(help="A memory, or a pattern such as 'digits*'. May be repeated.")],
    right: Annotated[list[Right], typer.Option(help="admin includes the others. May be repeated.")],
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day on which it is good, in UTC.")
    ] = None,
) -> None:
    """Make a token and print it, this once: the file keeps its SHA-256 alone.

    A running server takes it from its next call on.
    """
    with _failing():
        for pattern in memory:
            if not _PATTERN.fullmatch(pattern):
                raise CannotStart(f"--memory {pattern!r} is no name and no pattern of names: letters, digits, ._-*?[]!")
        until = None if expires is None else expires.replace(tzinfo=UTC) + timedelta(days=1)
        typer.echo(tokens.add(tokens_file, name, right, memory, until))


@token.command("list")
def list_(
    tokens_file: TokensFile, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False
) -> None:
    """List the tokens: names, rights, memories and how long they are good. The file does not hold them themselves."""
    with _failing():
        found = tokens.read(tokens_file).tokens
        if as_json:
            typer.echo(json.dumps([record.model_dump(mode="json", exclude={"sha256"}) for record in found]))
            return
        for record in found:
            typer.echo(
                f"{record.name}: {', '.join(sorted(record.rights))} on {', '.join(record.memories)}{_until(record)}"
            )


@token.command()
def revoke(tokens_file: TokensFile, name: Name) -> None:
    """Have a token refused from its next call on; streams that it has open end within seconds."""
    with _failing():
        tokens.revoke(tokens_file, name)
        typer.echo(f"revoked {name}")


def _until(record: tokens.Record) -> str:
    if record.expires is None:
        return ""
    return ", expired" if tokens.expired(record, tokens.now()) else f", until {record.expires.isoformat()}"


@contextmanager
def _failing() -> Iterator[None]:
    """Turns what cannot be done into one line and exit status 2."""
    try:
        yield
    except (CannotStart, ValidationError) as error:
        said = str(error) if isinstance(error, CannotStart) else f"--name: {error.errors()[0]['msg']}"
        print(f"memory-server: {said}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(2) from None
