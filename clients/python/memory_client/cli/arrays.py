"""Arrays into files."""

from pathlib import Path
from typing import Any

import numpy as np

from memory_client._whole import whole


def save(path: Path, **arrays: Any) -> None:
    """Writes an .npz file; what is at its place stays there until the new one is whole. Raises OSError."""
    with whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)
