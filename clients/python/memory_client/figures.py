"""What all figures share: their look, and how they become files. Needs matplotlib."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from memory_client._whole import whole
from memory_client.errors import InvalidInput

INK = "#333333"
_LOOK: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
_DPI = 200  # pixels per inch


def draw(figure: Callable[[], Figure], path: Path) -> None:
    """Writes a figure into an image file, in the format that its name ends with, once it is whole.

    Arguments:
        figure: makes it, in the look that all have.

    Raises:
        InvalidInput: the name of the file says no format that matplotlib writes.
    """
    with rc_context(_LOOK):
        made = figure()
        try:
            with whole(path) as unfinished:
                made.savefig(unfinished, dpi=_DPI)
        except ValueError as error:
            raise InvalidInput(f"{path} cannot be written ({error}): name it .png") from None
