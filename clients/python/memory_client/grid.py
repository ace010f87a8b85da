"""A picture of samples: one row per class, its name before it. Needs pillow."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from memory_client.errors import InvalidInput

TILE_PIXELS = 56
"""The least side of one drawn example: smaller ones are magnified by a whole factor."""

_GAP, _TEXT_HEIGHT, _BACKGROUND, _INK = 4, 16, 255, 0


def draw_grid(x: NDArray[Any], y: NDArray[Any], path: Path) -> None:
    """Draws images (n, C, H, W), uint8 or floats in [-1, 1], into an image file: one row per class, in order of y.

    Raises:
        InvalidInput: x holds no images, or the name of the file says no format that pillow writes.
    """
    if x.ndim != 4:
        raise InvalidInput(f"x has shape {x.shape}: only images (n, C, H, W) can be drawn; save vectors by --out")
    classes = np.unique(y)
    rows = [_pixels(x[y == label]) for label in classes]
    factor = max(1, -(-TILE_PIXELS // max(x.shape[2:])))
    names = [str(label) for label in classes]
    font = ImageFont.load_default(_TEXT_HEIGHT)
    margin = round(max(font.getlength(name) for name in names)) + 3 * _GAP
    height, width = x.shape[2] * factor + _GAP, x.shape[3] * factor + _GAP
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (margin + columns * width, _GAP + len(rows) * height), (_BACKGROUND,) * 3)
    pen = ImageDraw.Draw(canvas)
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        top = _GAP + i * height
        pen.text((2 * _GAP, top + (height - _GAP) // 2), name, (_INK,) * 3, font, anchor="lm")
        for j, pixels in enumerate(row):
            canvas.paste(_tile(pixels, factor), (margin + j * width, top))
    try:
        canvas.save(path)
    except ValueError as error:
        raise InvalidInput(f"{path} cannot be written ({error}): name it .png") from None


def _pixels(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Images as uint8 (n, H, W, 3)."""
    bytes_ = x if x.dtype == np.uint8 else np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.broadcast_to(np.moveaxis(bytes_, 1, 3), (len(x), *x.shape[2:], 3))


def _tile(pixels: NDArray[np.uint8], factor: int) -> Image.Image:
    tile = Image.fromarray(np.ascontiguousarray(pixels))
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)
