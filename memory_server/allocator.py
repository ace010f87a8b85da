"""Memory that is freed is overwritten: raw data leaves copies in buffers of gRPC, protobuf, numpy and Python.

Nobody but the allocator knows all of them. glibc overwrites what is freed if it is told to (`perturb`), but for
blocks that it hands on unseen (`tcache`); and small objects of Python never reach it unless Python is told to
(`PYTHONMALLOC`). All three are read from the environment when a process starts, and at no other time.
"""

import os
import sys

OVERWRITING = {
    "GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
    "PYTHONMALLOC": "malloc",
}
"""Environment of a process that overwrites what it frees; what is set already stays as it is."""


def overwrite_what_is_freed() -> None:
    """Begins this program again, as the same process, unless its environment is such already."""
    missing = {name: value for name, value in OVERWRITING.items() if name not in os.environ}
    if missing:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | missing)
