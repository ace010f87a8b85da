"""How the commands end that cannot do what they were asked for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from memory_server.errors import CannotStart


@contextmanager
def failing(command: str) -> Iterator[None]:
    """Says in one line why a command ends, and ends it with status 2."""
    try:
        yield
    except CannotStart as error:
        print(f"memory-server {command}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
