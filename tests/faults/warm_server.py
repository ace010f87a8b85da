"""Servers that start in a part of a second: forked from a process that has loaded torch already.

What runs is `memory-server serve` as ever, in a process of its own; only its imports are done. Its workers load it.
"""

import multiprocessing
import os
import sys
from pathlib import Path
from typing import IO

from memory_server.allocator import OVERWRITABLE

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["memory_server.app", "memory_server.__main__"])


class Forked:
    """A process, as `subprocess.Popen` would give it."""

    def __init__(self, args: list[str], env: dict[str, str], stdout: IO[bytes], stderr: IO[bytes], cwd: Path) -> None:
        self._process = _FORKS.Process(target=_run, args=(args, env, stdout.name, stderr.name, cwd))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s"
        return self._process.exitcode


def _run(args: list[str], env: dict[str, str], out: str, err: str, cwd: Path) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(OVERWRITABLE | env)  # else it would begin again, and load everything
    os.chdir(cwd)
    sys.argv = args[args.index("memory_server") :]

    from memory_server.__main__ import main

    main()
