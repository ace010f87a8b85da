"""The command `memory-server check`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from memory_server.maintenance.failing import failing
from memory_server.settings import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from memory_server.store.inspection import Finding

_UNBOUNDED = 10_000


def check(
    data_dir: Annotated[
        Path, typer.Option(envvar=f"{ENVIRONMENT_PREFIX}DATA_DIR", help="The data directory; no server may run on it.")
    ] = Path("memory-data"),
    deep: Annotated[
        bool, typer.Option("--deep", help="Derive every expert, too, and compare it with what was learned.")
    ] = False,
    encryption_key_file: Annotated[
        Path | None,
        typer.Option(envvar=f"{ENVIRONMENT_PREFIX}ENCRYPTION_KEY_FILE", help="Its key, if the directory is encrypted."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Verify a data directory, or a backup of one, while no server runs on it. Nothing is changed.

    Looks at the catalog, at every blob and its hash, at permissions, and at what a crash or an earlier start has left.
    Exits with 0 if every memory is whole and private, with 1 if something is to be done, with 2 if it cannot look.

    Examples:

        memory-server check --data-dir backup/memory-data --deep

        memory-server check --json | jq '.findings[] | select(.harmless | not)'
    """
    with failing("check"):
        from memory_server.store.inspection import inspect  # noqa: PLC0415 - loads torch, which takes seconds
        from memory_server.store.sealing import configured_key  # noqa: PLC0415

        findings = inspect(data_dir, configured_key(encryption_key_file), deep)
    sound = all(finding.harmless for finding in findings)
    if as_json:
        typer.echo(json.dumps({"sound": sound, "findings": [asdict(finding) for finding in findings]}))
    else:
        _show(findings, f"{data_dir} is {'sound' if sound else 'not sound'}")
    raise typer.Exit(0 if sound else 1)


def _show(findings: "list[Finding]", verdict: str) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _UNBOUNDED  # a file has no width that a table would have to fit into
    if findings:
        table = Table(box=None, header_style="bold")
        for column in ("what", "name", "problem", "what to do"):
            table.add_column(column)
        for each in findings:
            table.add_row(each.what, each.name, each.problem, each.advice)
        console.print(table, markup=False, highlight=False)
    console.print(verdict, markup=False, highlight=False)
