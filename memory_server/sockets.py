"""Where the server listens: a TCP port and, where one is named, a Unix socket for its own user."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc

from memory_server.errors import CannotStart
from memory_server.settings import Settings

_LONGEST_PATH = 107
_FOR_ITS_USER_ALONE = 0o177


def bind_port(server: grpc.aio.Server, settings: Settings, credentials: grpc.ServerCredentials | None) -> str:
    """Has a server listen on its TCP port, in plaintext if it has no credentials; gives the address.

    Raises:
        CannotStart: the port is not to be had.
    """
    try:
        if credentials is None:
            port = server.add_insecure_port(settings.address)
        else:
            port = server.add_secure_port(settings.address, credentials)
    except RuntimeError as error:
        raise CannotStart(
            f"cannot listen on {settings.address}: the port is taken or the address is not this machine's; "
            "choose another with --port, or --port 0 for a free one"
        ) from error
    return settings.model_copy(update={"port": port}).address


@contextmanager
def bound_socket(server: grpc.aio.Server, path: Path | None) -> Iterator[None]:
    """Has a server listen on a Unix socket too, mode 0600, which is removed on leaving. None: on no socket.

    Raises:
        CannotStart: a running server has this socket, something else has its name, or it cannot be made there.
    """
    if path is None:
        yield
        return
    path = path.absolute()
    made = _bind_socket(server, path)
    try:
        yield
    finally:
        with suppress(OSError):  # gRPC may have removed it, and another server may have made its own since
            if os.path.samestat(path.lstat(), made):
                path.unlink()


def _bind_socket(server: grpc.aio.Server, path: Path) -> os.stat_result:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise _cannot(path, f"the path is longer than {_LONGEST_PATH} bytes")
    try:
        _remove_stale(path)
        mask = os.umask(_FOR_ITS_USER_ALONE)  # before it exists, or others could connect for a moment
        try:
            server.add_insecure_port(f"unix:{path}")
        finally:
            os.umask(mask)
        return path.lstat()
    except OSError as error:
        raise _cannot(path, error.strerror or str(error)) from error
    except RuntimeError as error:
        raise _cannot(path, "its directory is missing or not writable") from error


def _remove_stale(path: Path) -> None:
    """Removes the socket of a server that is gone."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise _cannot(path, "it is there and is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
        raise _cannot(path, "a running server listens there")


def _cannot(path: Path, reason: str) -> CannotStart:
    return CannotStart(f"cannot listen on the Unix socket {path}: {reason}; choose another with --unix-socket")
