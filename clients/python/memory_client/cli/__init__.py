"""The `memoryctl` command; needs the [cli] extra."""

import sys


def main() -> None:
    """Runs `memoryctl`; without its extra, says in one line what to install and exits with status 2."""
    try:
        from memory_client.cli.app import app  # noqa: PLC0415 - the extra may be missing
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("typer", "click", "rich", "PIL"):
            raise
        sys.stderr.write(f"memoryctl needs {error.name}: pip install 'generative-memory[cli]'\n")
        sys.exit(2)
    app(prog_name="memoryctl")
