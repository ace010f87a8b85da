"""Images as they are drawn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pixels(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Images (n, C, H, W), uint8 or floats in [-1, 1], as uint8 (n, H, W, 3)."""
    bytes_ = x if x.dtype == np.uint8 else np.clip(np.rint((x.astype(np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.broadcast_to(np.moveaxis(bytes_, 1, 3), (len(x), *x.shape[2:], 3))
