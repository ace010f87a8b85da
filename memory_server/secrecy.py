"""Who may use a file that holds a secret, how messages name it, and who may use the directories of a server."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

import structlog

_FOR_OTHERS = 0o077
_FOR_OTHERS_OF_ROOTS = 0o037

_LIKE_A_SECRET = re.compile(r"[A-Za-z0-9_-]{43,}|.*\n.*", re.DOTALL)
"""A key, a token or PEM: 256 bits take 43 characters of base 64, 64 hexadecimal digits, or lines."""


def exposed(found: os.stat_result) -> bool:
    """Whether others than those that it is meant for may do something with a file of secrets.

    It is meant for its owner; and if that is root and this process is not, for root's group to read: so a platform
    hands secrets to a service, as Kubernetes does. Whoever is in that group was put there by root.
    """
    handed_down = found.st_uid == 0 and os.geteuid() != 0
    return bool(stat.S_IMODE(found.st_mode) & (_FOR_OTHERS_OF_ROOTS if handed_down else _FOR_OTHERS))


def named(path: Path) -> str:
    """A path for messages, which do not repeat a secret that was given where its file should have been."""
    return "(this looks like the secret itself)" if _LIKE_A_SECRET.fullmatch(str(path)) else str(path)


def keep_private(directory: Path) -> None:
    """Takes from others what they may do with a directory of this user; that of another it leaves alone, and warns."""
    found = directory.stat()
    mode = stat.S_IMODE(found.st_mode)
    if not mode & _FOR_OTHERS:
        return
    log = structlog.get_logger().bind(directory=str(directory), mode=f"{mode:04o}")
    if found.st_uid == os.geteuid():
        with suppress(OSError):  # file systems that have no such modes
            directory.chmod(mode & ~_FOR_OTHERS)
            log.warning("others could use a directory: it is private now")
            return
    log.warning("others may use a directory: have it owned by the server's user, with mode 0700", owner=found.st_uid)
