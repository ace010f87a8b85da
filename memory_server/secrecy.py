"""Who may use a file that holds a secret, how messages name it, and who may use the directories of a server."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

import structlog

_FOR_OTHERS = 0o077
_FOR_OTHERS_OF_ROOTS = 0o037

_ACCESS_LIST = "system.posix_acl_access"

_LIKE_A_SECRET = re.compile(r"[A-Za-z0-9_-]{43,}|.*\n.*", re.DOTALL)
"""A key, a token or PEM: 256 bits take 43 characters of base 64, 64 hexadecimal digits, or lines."""


def exposed(found: os.stat_result) -> bool:
    """Whether others than those that it is meant for may do something with a file of secrets.

    It is meant for its owner; and if that is root, for the group to read that root gave it: so a platform hands secrets
    to a service, as Kubernetes does. Whoever is in that group was put there by root.
    """
    return bool(stat.S_IMODE(found.st_mode) & _for_others(found))


def remedy(path: Path, found: os.stat_result) -> str:
    """The command by which a file is `exposed` no longer; whom root let read it by its group still may."""
    return f"chmod {0o660 & ~_for_others(found):04o} {path}"


def _for_others(found: os.stat_result) -> int:
    return _FOR_OTHERS_OF_ROOTS if found.st_uid == 0 else _FOR_OTHERS


def pass_on(descriptor: int, path: Path) -> None:
    """Gives a new file, of mode 0600, those who may use the file in whose place it is to be: owner, group, mode, list.

    Where there is none, and root makes one, it is for whom the directory belongs to, as for a service's own directory.

    Raises:
        OSError: this user may not.
    """
    try:
        present = path.stat()
    except FileNotFoundError:
        _leave_to_whom_all_belongs(descriptor, path.absolute().parent)
        return
    os.fchown(descriptor, present.st_uid, present.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(present.st_mode))
    if access := _access_list(path):
        os.setxattr(descriptor, _ACCESS_LIST, access)


def make_private(directory: Path) -> None:
    """Makes a directory of mode 0700 if it is not there; one that root makes is for whom that around it belongs to."""
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True)
        _leave_to_whom_all_belongs(directory, directory.absolute().parent)


def _leave_to_whom_all_belongs(made: int | Path, directory: Path) -> None:
    if os.geteuid() == 0:
        found = directory.stat()
        os.chown(made, found.st_uid, found.st_gid)


def _access_list(path: Path) -> bytes:
    try:
        return os.getxattr(path, _ACCESS_LIST)
    except OSError:  # it has none, or its file system knows none
        return b""


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
