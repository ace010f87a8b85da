"""The audit log: who did what to which memory, a line of JSON each. Never data, never a token.

A line is with the operating system before its call goes on, so that a server that is killed loses none; a thread has
the disk sync it within moments. Where a line cannot be written or synced, calls are refused until it can: nothing is
done unseen.
"""

import json
import os
import stat
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from memory_server.errors import AuditFailed, CannotStart
from memory_server.security.tokens import Now, now

_FOR_OTHERS = 0o077
_LONGEST = 200


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
        self._guard = threading.Lock()
        self._file = _opened(path)
        self._unsynced = threading.Event()
        self._failure: OSError | None = None
        self._closed = False
        self._syncing = threading.Thread(target=self._sync_on, name="audit-log", daemon=True)
        self._syncing.start()

    def write(self, event: str, **facts: Any) -> None:
        """Appends a line; facts that are None or empty are left out. Raises AuditFailed if it cannot."""
        told = {key: _bounded(value) for key, value in facts.items() if value not in (None, "", [])}
        line = json.dumps({"time": _stamp(self._clock()), "event": event, **told}) + "\n"
        with self._guard:
            try:
                if self._failure is not None:
                    self._sync()
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
            with suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
            self._file, self._failure = file, None

    def close(self) -> None:
        """Syncs what was written and ends."""
        self._closed = True
        self._unsynced.set()
        self._syncing.join()
        os.close(self._file)

    def _sync_on(self) -> None:
        while not self._closed:
            self._unsynced.wait()
            self._unsynced.clear()
            with self._guard, suppress(OSError):
                self._sync()

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file)
            self._failure = None
        except OSError as error:
            self._failure = error
            raise


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


def _bounded(value: Any) -> Any:
    """Names that a caller made up may be of any length."""
    return value[:_LONGEST] if isinstance(value, str) else value


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
