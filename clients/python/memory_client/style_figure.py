"""A picture of what the parts of a task's style do, after Cong et al. 2020, Fig. 2. Needs matplotlib.

(a) its groups of parameters: none, each alone, all but the biases, all   Fig. 2 (a), (b)
(b) its layers, added one after another from the noise to the image       Fig. 2 (c)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from memory_client.errors import InvalidInput
from memory_client.figures import draw
from memory_client.pixels import pixels
from memory_client.styles import Shown

_SIDE, _TITLE, _HEAD, _NAMES, _MARGIN, _SPACE = 0.62, 0.4, 0.32, 1.7, 0.12, 0.06  # inches
_LEAST_WIDTH, _LETTER = 5.0, 0.1  # inches; of the figure, and of a letter of its title
_GAP = 1  # pixels of the images, between any two
_LONGEST_NAME = 20


def draw_styles(title: str, groups: Sequence[Shown], layers: Sequence[Shown], path: Path) -> None:
    """Draws samples under the settings of `memory_client.styles` into an image file, one row for each.

    Raises:
        InvalidInput: x holds no images, or the name of the file says no format that matplotlib writes.
    """
    if groups[0].x.ndim != 4:
        raise InvalidInput(f"x has shape {groups[0].x.shape}: only images (n, C, H, W) can be drawn")
    draw(lambda: _figure(title, groups, layers), path)


def _figure(title: str, groups: Sequence[Shown], layers: Sequence[Shown]) -> Figure:
    page = _Page(groups[0].x.shape, rows=len(groups) + len(layers), heads=2)
    page.text(_MARGIN, _TITLE, _short(title, int(page.width / _LETTER)), size=10)
    page.section("(a) Groups of style parameters", groups)
    page.section("(b) Layers, added from the noise to the image", layers)
    return page.figure


class _Page:
    """A figure that is filled from above; images keep their proportions, so that all columns stand in line.

    Arguments:
        shape: (n, C, H, W) of each row.
        rows, heads: how many there will be.
    """

    def __init__(self, shape: tuple[int, ...], rows: int, heads: int) -> None:
        n, _, height, width = shape
        self._strip = (n * _SIDE, _SIDE * height / width)
        self.width = max(_LEAST_WIDTH, _NAMES + self._strip[0] + _MARGIN)
        self._height = _TITLE + heads * _HEAD + rows * (self._strip[1] + _SPACE) + _MARGIN
        self._top = 0.0
        self.figure = Figure((self.width, self._height))

    def section(self, title: str, rows: Sequence[Shown]) -> None:
        """A heading, and a row for each."""
        self.text(_MARGIN, _HEAD, title, weight="bold")
        for row in rows:
            self._images(pixels(row.x))
            self.text(_NAMES - _MARGIN, self._strip[1] + _SPACE, _short(row.setting.name, _LONGEST_NAME), ha="right")

    def text(self, left: float, height: float, text: str, **look: Any) -> None:
        """A text in the middle of a line of some height, which ends the line."""
        self.figure.text(left / self.width, 1 - (self._top + height / 2) / self._height, text, va="center", **look)
        self._top += height

    def _images(self, images: NDArray[np.uint8]) -> None:
        width, height = self._strip
        bottom = self._height - self._top - height - _SPACE / 2
        place = (_NAMES / self.width, bottom / self._height, width / self.width, height / self._height)
        panel = self.figure.add_axes(place)
        panel.imshow(_side_by_side(images), interpolation="nearest", aspect="auto")
        panel.set_axis_off()


def _side_by_side(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (n, H, W, 3) in one row with a white line behind each."""
    framed = np.pad(images, ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(framed), axis=1)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 3]}…{text[most // 3 + 1 - most :]}"
