"""Memory that is freed can be overwritten: raw data leaves copies in buffers of gRPC, protobuf, numpy and Python.

Nobody but the allocator knows all of them. glibc overwrites what is freed while it is told to (`perturb`), but for
blocks that it hands on unseen (`tcache`); and small objects of Python never reach it unless Python is told to
(`PYTHONMALLOC`). These two are read from the environment when a process starts, and at no other time. Whoever starts it
may have set them otherwise, or have put another allocator in glibc's place: so `all_is_overwritten` tries it.
"""

import ctypes
import os
import sys
from typing import Any

_BYTE = 165
_M_PERTURB = -6
_NEW = _BYTE ^ 0xFF
"""What glibc fills a new block with, while it overwrites those that are freed."""

_SIZES = (64, 1000)
"""In bytes: one that Python and `tcache` keep to themselves if they may, and one that only `tcache` does."""

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


def all_is_overwritten() -> bool:
    """Whether what is freed is overwritten while that is switched on, blocks of C and of Python; leaves it off."""
    switch(on=True)
    try:
        c, python = ctypes.CDLL(None), ctypes.pythonapi
        pairs = ((c.malloc, c.free), (python.PyObject_Malloc, python.PyObject_Free))
        return all(_is_overwritten(size, *pair) for pair in pairs for size in _SIZES)
    finally:
        switch(on=False)


def _is_overwritten(size: int, allocate: Any, free: Any) -> bool:
    """Whether a block that was used comes back as one that went through glibc's hands, and not as it was left."""
    allocate.restype, allocate.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    used = allocate(size)
    ctypes.memset(used, 0, size)
    free(used)
    again = allocate(size)
    content = ctypes.string_at(again, size)
    free(again)
    return content == bytes([_NEW]) * size
