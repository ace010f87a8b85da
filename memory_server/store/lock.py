"""`LOCK`, which one process holds: a data directory belongs to one server at a time."""

import fcntl
import os
from pathlib import Path

from memory_server.store.errors import DataDirError, reason


def take_lock(path: Path) -> int:
    """Makes the directory and takes its lock, which ends with the descriptor: with this process at the latest."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataDirError(
            f"the data directory {path} cannot be written ({reason(error)}); "
            "free space on the disk or give this user the right to write there, or choose another with --data-dir"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
        os.close(descriptor)
        raise DataDirError(
            f"the data directory {path} is in use by another server (process {owner}); "
            "stop that one, or choose another directory with --data-dir"
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise DataDirError(
            f"the data directory {path} cannot be locked ({reason(error)}); mend the disk or free space on it, "
            "or choose another with --data-dir"
        ) from error
    return descriptor
