"""The command `memory-server demo`."""

import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from memory_server.demo.run import Wish, run

_NEEDED = {"sklearn": "scikit-learn", "PIL": "pillow"}


def demo(
    dataset: Annotated[str, typer.Option(help="digits (scikit-learn's, 8 x 8) or mnist (28 x 28).")] = "digits",
    data: Annotated[Path | None, typer.Option(help="Folder with the four MNIST files, gzipped or not.")] = None,
    seed: Annotated[int, typer.Option(help="Of the memory, the classifiers and the split of the digits.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the picture of samples.")] = Path("demo-output"),
) -> None:
    """Teach ten classes in five tasks, each from a learner process that then owns none of its data.

    After each task a fresh classifier is trained on that task's real data and on samples of all earlier classes. Prints
    its accuracy beside no replay and joint training, checks that the seeded samples of every earlier task are unchanged
    to the bit, and draws one row of samples per class. Exits with 1 if the accuracy or the bits were not kept.
    """
    console = Console()
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        console.print(f"the demo needs {' and '.join(missing)}; pip install 'generative-memory\\[server,demo]'")
        raise typer.Exit(2)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the server is stopped, too
    try:
        status = run(Wish(dataset, data, seed, out), console)
    except (ValueError, RuntimeError) as error:
        console.print(f"memory-server demo: {error}", markup=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        console.print("interrupted; the demo's server and learner have been stopped")
        raise typer.Exit(130) from None
    raise typer.Exit(status)
