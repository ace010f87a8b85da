"""The worker process, `python -m memory_server.learning.worker SOCKET_FD SERVER_PID`: does one piece of work and ends.

It may crash, be killed or hog its interpreter without harm to the server, and never outlives it.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from memory_server.learning.frames import Frame, encode, read

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_NICENESS = 10
_FIRST_TO_GO = "1000"


def main(arguments: list[str]) -> None:
    """Reads from the inherited socket what there is to do, does it, and answers there."""
    descriptor, server = map(int, arguments)
    die_with(server)
    die_before_others()
    keep_data_private()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the server decides what it means
    os.nice(_NICENESS)
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rb") as stream:
        job = read(stream)
        if job is None:
            return
        ending = threading.Event()
        threading.Thread(target=_listen, args=(stream, ending), daemon=True).start()
        # Loading torch takes seconds, in which the server may die: by now this process would notice.
        from memory_server.learning.training import run  # noqa: PLC0415

        run(job, lambda frame: _send(connection, frame), ending)


def die_with(server: int) -> None:
    """Has the kernel kill this process as soon as the server is gone, and ends it if that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        sys.exit("the server died before its worker had started")


def die_before_others() -> None:
    """Has the kernel choose this process, and not the server, when the machine runs out of memory."""
    with suppress(OSError):  # a container may forbid it; then the kernel chooses by size
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)


def keep_data_private() -> None:
    """No core dump of this process may hold raw data, and no other process of this user may read its memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _listen(stream: BinaryIO, ending: threading.Event) -> None:
    """Hears when training should be put down; ends the process when the server closes its end, or dies."""
    while read(stream) is not None:  # there is but one thing that it says now
        ending.set()
    os._exit(1)


def _send(connection: socket.socket, frame: Frame) -> None:
    for piece in encode(frame):
        connection.sendall(piece)


if __name__ == "__main__":
    main(sys.argv[1:])
