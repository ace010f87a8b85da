"""How the server's process computes: devices, threads, determinism, the allocator, and the garbage collector."""

import asyncio
import ctypes
import gc
import os
import sys
import threading
from contextlib import suppress

import torch

from memory_server.errors import CannotStart

_NICENESS = 10
"""Of threads that give way: a tenth of the weight of the others."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": (_M_MMAP_THRESHOLD, 32 << 20),
    "MALLOC_TRIM_THRESHOLD_": (_M_TRIM_THRESHOLD, 512 << 20),
}


def device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA if there is any. Raises CannotStart if it is not to be had."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        others = "auto, cpu or cuda" if torch.cuda.is_available() else "auto or cpu"
        raise CannotStart(f"there is no device {name!r} ({reason}); try --device {others}") from error
    return found


def make_deterministic() -> None:
    """One thread per operation and no choice among kernels: the same tile gives the same bytes.

    A sum depends on how many threads share it, and a convolution on which algorithm wins a benchmark.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def give_way() -> None:
    """Has the threads of this process that do not call this run before the one that does, where the kernel is Linux.

    For good: whoever is nicer may not be less nice again.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # where it is forbidden, all are alike
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def tune_malloc() -> None:
    """Lets glibc keep blocks of a message's size instead of mapping each anew; child processes inherit it.

    Messages of 256 KiB to 1 MiB then move about twice as fast. Without glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for variable, (parameter, size) in _MALLOC.items():
        os.environ.setdefault(variable, str(size))
        if mallopt is not None:
            mallopt(parameter, size)


def keep_what_is_loaded() -> None:
    """Has the garbage collector leave out what is there by now: modules, for the most part, which stay.

    With them a whole collection holds all threads up for a fifth of a second.
    """
    gc.freeze()


class Trimmer:
    """Gives what glibc keeps of freed memory back to the system. Without glibc it does nothing.

    A trim costs milliseconds, and pages that are needed again are mapped anew: so there is one for all who ask within
    `seconds`, and none while nobody does.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
        self._due = False

    def ask(self) -> None:
        """Has it done soon, by the running loop."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(self._seconds, self._now)

    def _now(self) -> None:
        self._due = False
        self._trim(0)
