"""The commands `memory-server key new | rotate`."""

from pathlib import Path
from typing import Annotated

import typer

from memory_server.maintenance.failing import failing
from memory_server.settings import ENVIRONMENT_PREFIX

key = typer.Typer(
    help="Make and change the key that encrypts a data directory.", no_args_is_help=True, rich_markup_mode="rich"
)


@key.command()
def new(path: Annotated[Path, typer.Argument(help="File to write; one that is there is never overwritten.")]) -> None:
    """Write a new random key into a file of mode 0600, for --encryption-key-file.

    Keep a copy apart from the data directory and its backups: without the key nobody reads them again.
    """
    with failing("key new"):
        from memory_server.store.sealing import SealingKey  # noqa: PLC0415

        SealingKey.new().write(path)
    typer.echo(f"wrote a new key to {path}; keep a copy of it apart from the data directory")


@key.command()
def rotate(
    old: Annotated[Path, typer.Option(help="File with the present key.")],
    new: Annotated[Path, typer.Option(help="File with the key that is to take its place.")],
    data_dir: Annotated[
        Path, typer.Option(envvar=f"{ENVIRONMENT_PREFIX}DATA_DIR", help="The data directory; no server may run on it.")
    ] = Path("memory-data"),
) -> None:
    """Have another key encrypt a data directory: at once, since it seals the blobs' own keys alone.

    Make the new key by `memory-server key new`. Backups keep needing the old key, so keep it as long as them.
    """
    with failing("key rotate"):
        from memory_server.store.datadir import DataDir  # noqa: PLC0415 - loads what takes seconds
        from memory_server.store.sealing import SealingKey  # noqa: PLC0415

        present, following = SealingKey.read(old), SealingKey.read(new)
        with DataDir.existing(data_dir, present) as data:
            count = data.catalog.change_key(present, following)
    typer.echo(f"the key in {new} encrypts {data_dir} now ({count} blobs); {old} opens its backups alone")
