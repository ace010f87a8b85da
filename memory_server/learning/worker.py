"""The worker process, `python -m memory_server.learning.worker SOCKET_FD SERVER_PID`: does one piece of work and ends.

It may crash, be killed or hog its interpreter without harm to the server, and never outlives it: so this module imports
next to nothing, for until it is loaded nobody would notice that the server has died.
"""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress

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
    # Even asyncio takes a part of a second to load, and seconds where processors are busy.
    from memory_server.learning.errand import run_errand  # noqa: PLC0415

    run_errand(descriptor)


def die_with(server: int) -> None:
    """Has the kernel kill this process as soon as the server is gone, and ends it if that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        sys.exit("the server died before its worker had started")


def die_before_others() -> None:
    """Has the kernel choose this process, and not the server, when the machine runs out of memory."""
    # A container may forbid it; then the kernel chooses by size. And pathlib would take a while to load.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write(_FIRST_TO_GO)


def keep_data_private() -> None:
    """No core dump of this process may hold raw data, and no other process of this user may read its memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    main(sys.argv[1:])
