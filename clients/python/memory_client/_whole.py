"""Files that appear when they are whole."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write a file to, which takes that of `path` afterwards; what is there stays until then, or for good.

    The place ends as `path` does, for libraries that choose a format by that. What is no regular file, such as a pipe
    or /dev/null, is written as it is.

    Raises:
        OSError: nothing can be written there.
    """
    place = path.resolve()
    if place.exists() and not place.is_file():
        yield path
        return
    unfinished = place.with_name(f".{place.name}.{secrets.token_hex(4)}.unfinished{path.suffix}")
    try:
        yield unfinished
        descriptor = os.open(unfinished, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)
