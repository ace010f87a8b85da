"""A run that can be continued: what has been done is in its folder, and the same command does the rest.

The folder holds the server's data directory, `journal.json` with the result of every finished piece of work, and a lock
that ends with the process. Killing the run at any instant costs the piece of work that was under way.
"""

import fcntl
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

PATIENCE = 60.0
MARGIN = 1.15
ENDING = 30.0
"""Seconds that a call may take to end when it has stopped: a server that has not by then is killed."""

UNTIMED = 1 / 3
"""Share of the seconds of a call that a piece of work of a kind that was never done is expected to take, or more."""


class OutOfTime(Exception):
    """The next piece of work would probably not be finished in time; the same command continues from here."""


class NotThisRun(Exception):
    """The folder belongs to a run of other arguments, or is in use; the message says what to do."""


def process_seconds() -> float:
    """Seconds since this process was started: before it imported anything."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # since the machine was
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class RunFolder:
    """The folder of one run.

    Arguments:
        path: made if it is not there.
        wish: the arguments that decide about results; a folder is refused if it was begun with others.
        seconds: begin nothing after which the call would probably end later, but do at least one piece of work; None:
            no limit.
        now: seconds since the call began, what came before the folder among them.

    Raises:
        NotThisRun: it was begun with other arguments, or another process uses it.
    """

    def __init__(
        self,
        path: Path,
        wish: Mapping[str, Any],
        seconds: float | None = None,
        now: Callable[[], float] = process_seconds,
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self._seconds, self._now = path, seconds, now
        self._worked = False
        self._lock = _exclusive(path / "LOCK")
        if self._lock is None:
            raise NotThisRun(f"another process uses {path}; wait for it, or give --state another folder")
        self._journal = path / "journal.json"
        self._state = self._read(dict(wish))
        stop_server_left_behind(path / "data" / "LOCK")

    @property
    def run(self) -> str:
        """Name of the run: the same whenever it is continued."""
        return str(self._state["run"])

    def result(self, key: str) -> Any:
        """The result of a piece of work that is done. Raises KeyError if it is not."""
        return self._state["done"][key]

    def once(self, key: str, work: Callable[[], Any], quick: bool = False) -> Any:
        """The result of a piece of work, which is done now unless it was done before.

        Arguments:
            key: "kind/which"; pieces of one kind are expected to take as long as the longest so far, and the first of
                a kind as long as the longest of any, or UNTIMED.
            work: gives something that JSON can hold.
            quick: it takes no time worth speaking of, and is done even when time is up.

        Raises:
            OutOfTime: it would end too late.
        """
        if key not in self._state["done"]:
            kind = key.partition("/")[0]
            if not quick:
                self._check_time(key, kind)
            started = self._now()
            self._state["done"][key] = json.loads(json.dumps(work()))  # as the next process will see it
            self._worked = self._worked or not quick
            self._state["longest"][kind] = max(self._state["longest"].get(kind, 0.0), self._now() - started)
            self._write()
        return self.result(key)

    def close(self) -> None:
        """Lets the next process use the folder."""
        if self._lock is not None:
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_time(self, key: str, kind: str) -> None:
        if self._seconds is None or not self._worked:
            return
        longest: dict[str, float] = self._state["longest"]
        passed = self._now()
        expected = longest[kind] if kind in longest else max([UNTIMED * self._seconds, *longest.values()])
        if passed + MARGIN * expected + ENDING > self._seconds:
            raise OutOfTime(
                f"stopped before {key}: {passed:.0f} of {self._seconds:.0f} s have passed and it may take "
                f"{expected:.0f} s; the same command goes on from here"
            )

    def _read(self, wish: dict[str, Any]) -> dict[str, Any]:
        wish = json.loads(json.dumps(wish))
        if not self._journal.exists():
            return {"run": uuid.uuid4().hex[:12], "wish": wish, "done": {}, "longest": {}}
        state: dict[str, Any] = json.loads(self._journal.read_text())
        known = state["wish"]
        if known != wish:
            differing = [
                f"{name} {known.get(name)!r} instead of {wish.get(name)!r}"
                for name in sorted(known.keys() | wish.keys())
                if known.get(name) != wish.get(name)
            ]
            raise NotThisRun(
                f"{self.path} was begun with {', '.join(differing)}; give the same arguments, or --state another folder"
            )
        return state

    def _write(self) -> None:
        # Replaced as a whole: a run that is killed here leaves the old journal or the new one.
        new = self._journal.with_suffix(".new")
        with new.open("w") as file:
            json.dump(self._state, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._journal)


def stop_server_left_behind(lock: Path) -> None:
    """Stops the server that a killed run has left in its data directory, and waits until the directory is free.

    Arguments:
        lock: the server's lock file, which names its process.
    """
    if not lock.exists():
        return
    deadline = time.monotonic() + PATIENCE
    asked = False
    while (descriptor := _exclusive(lock)) is None:
        if not asked:
            os.kill(int(lock.read_text()), signal.SIGTERM)
            asked = True
        if time.monotonic() > deadline:
            raise NotThisRun(f"the server of an earlier run still holds {lock.parent}; stop process {lock.read_text()}")
        time.sleep(0.1)
    os.close(descriptor)


def _exclusive(path: Path) -> int | None:
    """A descriptor that holds the lock on a file as long as it is open; None if another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
