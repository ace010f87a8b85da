"""Arrays into files."""

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np


def save(path: Path, **arrays: Any) -> None:
    """Writes an .npz file; what is at its place stays there until the new one is whole. Raises OSError."""
    place = path.resolve()
    unfinished = place.with_name(f".{place.name}.{secrets.token_hex(4)}.unfinished")
    try:
        with unfinished.open("xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)
