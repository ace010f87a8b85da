"""Pictures of samples in rows, such as one per class, with names beside them. Needs pillow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from memory_client._whole import whole
from memory_client.errors import InvalidInput
from memory_client.pixels import pixels

TILE_PIXELS = 56
"""The least side of one drawn example: smaller ones are magnified by a whole factor."""

_GAP, _TEXT_HEIGHT, _BACKGROUND, _INK = 4, 16, 255, 0


def draw_grid(x: NDArray[Any], y: NDArray[Any], path: Path) -> None:
    """Draws images (n, C, H, W), uint8 or floats in [-1, 1], into an image file: one row per class, in order of y.

    Raises:
        InvalidInput: as `draw_rows` does.
    """
    draw_rows([(str(label), x[y == label]) for label in np.unique(y)], path)


def draw_rows(rows: Sequence[tuple[str, NDArray[Any]]], path: Path, heads: Sequence[str] = ()) -> None:
    """Draws rows of images into an image file; what is at its place stays there until the new one is whole.

    Arguments:
        rows: a name and images (n, C, H, W), uint8 or floats in [-1, 1], for each; all of one shape.
        heads: what stands above the columns.

    Raises:
        InvalidInput: these are no images, or the name of the file says no format that pillow writes.
    """
    first = rows[0][1]
    if first.ndim != 4:
        raise InvalidInput(f"x has shape {first.shape}: only images (n, C, H, W) can be drawn; save vectors by --out")
    factor = max(1, -(-TILE_PIXELS // max(first.shape[2:])))
    font = ImageFont.load_default(_TEXT_HEIGHT)
    longest = round(max(font.getlength(name) for name, _ in rows))
    left, head = longest + 3 * _GAP if longest else _GAP, (_TEXT_HEIGHT + _GAP) * bool(heads)
    height, width = first.shape[2] * factor + _GAP, first.shape[3] * factor + _GAP
    columns = max(len(images) for _, images in rows)
    canvas = Image.new("RGB", (left + columns * width, head + _GAP + len(rows) * height), (_BACKGROUND,) * 3)
    pen = ImageDraw.Draw(canvas)
    for j, text in enumerate(heads):
        pen.text((left + j * width + (width - _GAP) // 2, _GAP), text, (_INK,) * 3, font, anchor="mt")
    for i, (name, images) in enumerate(rows):
        top = head + _GAP + i * height
        pen.text((2 * _GAP, top + (height - _GAP) // 2), name, (_INK,) * 3, font, anchor="lm")
        for j, image in enumerate(pixels(images)):
            canvas.paste(_tile(image, factor), (left + j * width, top))
    try:
        with whole(path) as unfinished:
            canvas.save(unfinished)
    except ValueError as error:
        raise InvalidInput(f"{path} cannot be written ({error}): name it .png") from None


def _tile(image: NDArray[np.uint8], factor: int) -> Image.Image:
    tile = Image.fromarray(np.ascontiguousarray(image))
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)
