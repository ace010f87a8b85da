"""Memory that is freed can be overwritten: raw data leaves copies in buffers of gRPC, protobuf, numpy and Python.

Nobody but the allocator knows all of them. glibc overwrites what is freed while it is told to (`perturb`), but for
blocks that it hands on unseen (`tcache`); and small objects of Python never reach it unless Python is told to
(`PYTHONMALLOC`). These two are read from the environment when a process starts, and at no other time.
"""

import ctypes
import os
import sys

_BYTE = 165
_M_PERTURB = -6

OVERWRITABLE = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0", "PYTHONMALLOC": "malloc"}
"""Environment of a process of which all that is freed can be overwritten; what is set already stays as it is."""


def make_overwritable() -> None:
    """Begins this program again, as the same process, unless its environment is such already."""
    missing = {name: value for name, value in OVERWRITABLE.items() if name not in os.environ}
    if missing:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | missing)


def switch(on: bool) -> None:
    """Has what is freed overwritten from now on, by any thread, or no more. Without glibc this does nothing."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_PERTURB, _BYTE if on else 0)
