"""The audit log: who did what to which memory, a line of JSON each. Never data, never a token.

A line is with the operating system before its call goes on, so that a server that is killed loses none; a thread has
the disk sync it within moments, and nobody waits for that. Where a line cannot be written or synced, calls are refused
until it can: nothing is done unseen. What callers make up, such as names, is cut: no line fills a disk.
"""

import json
import os
import stat
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from memory_server.errors import AuditFailed, CannotStart
from memory_server.security.tokens import Now, now

_FOR_OTHERS = 0o077
_LONGEST = 200
_MOST = 100
_SECONDS_BETWEEN_TRIALS = 1.0


class AuditLog:
    """Appends to one file, of mode 0600. Safe to use from any thread.

    Arguments:
        path: of the file, made if it is not there.
        clock: the present time.

    Raises:
        CannotStart: it cannot be appended to, or others may do something with it.
    """

    def __init__(self, path: Path, clock: Now = now) -> None:
        self._path = path
        self._clock = clock
        self._guard = threading.Lock()  # never held while a disk syncs: calls wait for it
        self._file = _opened(path)
        self._moved: list[int] = []
        self._unsynced = threading.Event()
        self._failure: OSError | None = None
        self._closed = False
        self._syncing = threading.Thread(target=self._sync_on, name="audit-log", daemon=True)
        self._syncing.start()

    def write(self, event: str, **facts: Any) -> None:
        """Appends a line; facts that are None or empty are left out. Raises AuditFailed if it cannot."""
        line = json.dumps({"time": _stamp(self._clock()), "event": event, **_told(facts)}) + "\n"
        with self._guard:
            try:
                if self._failure is not None:
                    raise OSError(*self._failure.args)
                _append(self._file, line.encode())
            except OSError as error:
                structlog.get_logger().error("audit log failed", path=str(self._path), reason=error.strerror)
                raise AuditFailed from error
        self._unsynced.set()

    def tell(self, event: str, **facts: Any) -> None:
        """As `write`, of what cannot be refused any more: that it could not be written is in the server's log alone."""
        with suppress(AuditFailed):
            self.write(event, **facts)

    def reopen(self) -> None:
        """Goes on in the file that has the name now: the old one may have been moved away. Raises CannotStart."""
        file = _opened(self._path)
        with self._guard:
            self._moved.append(self._file)
            self._file, self._failure = file, None
        self._unsynced.set()

    def close(self) -> None:
        """Syncs what was written and ends."""
        with self._guard:
            self._closed = True
        self._unsynced.set()
        self._syncing.join()
        os.close(self._file)

    def _sync_on(self) -> None:
        """Syncs what is written, until a round has begun after the end. No other thread closes a file meanwhile."""
        last = False
        while not last:
            self._unsynced.wait(None if self._failure is None else _SECONDS_BETWEEN_TRIALS)
            self._unsynced.clear()
            with self._guard:
                last, file = self._closed, self._file
                moved, self._moved = self._moved, []
            for old in moved:
                _synced(old)
                os.close(old)
            self._failure = _synced(file)


def _opened(path: Path) -> int:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"--audit-log {path}: {error.strerror}; name a file that the server may append to") from error
    mode = stat.S_IMODE(os.fstat(file).st_mode)
    if mode & _FOR_OTHERS:
        os.close(file)
        raise CannotStart(f"--audit-log {path}: its mode is {mode:04o}, so others may use it; chmod 0600 {path}")
    return file


def _append(file: int, line: bytes) -> None:
    """All of a line or nothing: half a line would swallow the next one."""
    before = os.fstat(file).st_size
    try:
        written = os.write(file, line)
        if written < len(line):
            os.write(file, line[written:])  # says why it could not
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, before)
        raise


def _synced(file: int) -> OSError | None:
    """Has the disk sync a file; what is wrong if it does not."""
    try:
        os.fdatasync(file)
    except OSError as error:
        return error
    return None


def _told(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is known, cut; of a list that is cut, too, how many it leaves out."""
    told = {key: _bounded(value) for key, value in facts.items() if value not in (None, "", [])}
    cut = {key: len(value) - _MOST for key, value in facts.items() if isinstance(value, list) and len(value) > _MOST}
    return told | {f"{key}_left_out": count for key, count in cut.items()}


def _bounded(value: Any) -> Any:
    """Names that a caller made up may be of any length, and any number."""
    if isinstance(value, list):
        return [_bounded(each) for each in value[:_MOST]]
    return value[:_LONGEST] if isinstance(value, str) else value


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
