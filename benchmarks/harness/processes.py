"""Servers under measurement, each a process of its own: started, pinned, charged for its CPU time, and surely ended."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from memory_server.settings import ENVIRONMENT_PREFIX

READY = " ready on "
PATIENCE = 30.0
_MOST_SAID = 1 << 20


class DidNotStart(RuntimeError):
    """The server ended before it was ready; the message has what it said."""


@dataclass(frozen=True)
class Running:
    """A server that answers calls.

    Arguments:
        target: its address.
        pid: of the process; what it starts is charged to it.
    """

    target: str
    pid: int

    def cpu_seconds(self) -> float:
        """That it and all processes below it have used so far."""
        return sum(_cpu_seconds(process) for process in _tree(self.pid))

    def resident_bytes(self) -> int:
        """Memory that it and all processes below it hold."""
        return sum(_resident(process) for process in _tree(self.pid))


@contextmanager
def memory_server(data_dir: Path, cores: Sequence[int] = (), **settings: object) -> Iterator[Running]:
    """`memory-server serve` on a data directory and a free port.

    Arguments:
        cores: that it may use; none: all that this process may.
        settings: of the server, by their names.
    """
    command = [sys.executable, "-m", "memory_server", "serve", "--port", "0", "--data-dir", str(data_dir)]
    chosen = {f"{ENVIRONMENT_PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
    with running(command, cores, chosen) as server:
        yield server


@contextmanager
def running(
    command: Sequence[str], cores: Sequence[int] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """A process that prints a line "… ready on ADDRESS" once it answers; it and its children end with the block.

    Raises:
        DidNotStart: it ended before that line.
    """
    with tempfile.TemporaryFile() as log:
        # A session of its own: an interrupt from the terminal reaches the benchmark alone, which then ends the server.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**_environment(), **(environment or {})},
            start_new_session=True,
        )
        try:
            if cores:
                os.sched_setaffinity(process.pid, cores)
            yield Running(_address(process, log.fileno()), process.pid)
        finally:
            _end(process)


def _environment() -> dict[str, str]:
    """Of this process, without what would set up a memory server."""
    return {key: value for key, value in os.environ.items() if not key.startswith(ENVIRONMENT_PREFIX)}


def _address(process: "subprocess.Popen[bytes]", log: int) -> str:
    while True:
        ended = process.poll() is not None
        said = os.pread(log, _MOST_SAID, 0).decode(errors="replace")
        for line in said.splitlines(keepends=True):
            if READY in line and line.endswith("\n"):
                return line.partition(READY)[2].strip()
        if ended:
            raise DidNotStart(f"{process.args!r} ended with status {process.returncode} before it was ready:\n{said}")
        time.sleep(0.05)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Asks it to end, and kills whatever of it is left after a while."""
    tree = _tree(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    finally:
        for left in tree:
            with suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait()
        psutil.wait_procs(tree, PATIENCE)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
