"""Checkpoints on disk: sealed files in a directory of their own, for as long as a task may still be sent again.

A checkpoint leaks what it was trained on more readily than a generator does: it holds the discriminator and what the
optimisers remember. So it is written sealed or not at all, by a key for that one attempt, derived from the operator's.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from memory_server.store.blobs import sync_directory
from memory_server.store.sealing import KEY_BYTES, SealingKey, Unsealable

CHECKPOINTS = "checkpoints"
"""The folder of a data directory where checkpoints lie."""

LIFETIME = 24 * 3600.0
"""Seconds after which a checkpoint that nobody came back for is removed."""

PART = 64 << 20
"""Bytes that are sealed at one time."""

_UNFINISHED = ".unfinished"
_NAME = 32  # hexadecimal digits of a hash that name what a checkpoint is of
_SEAL = 28  # bytes that sealing adds: a nonce and a tag


@dataclass(frozen=True)
class Slot:
    """Where one attempt at a task puts down its state.

    Arguments:
        path: of the file.
        secret: of the key that seals it, in hexadecimal.
        seconds: between two checkpoints.
    """

    path: str
    secret: str
    seconds: float

    def write(self, content: bytes) -> None:
        """Seals and writes; whoever reads sees the whole file, or the one before. Raises OSError and leaves no part."""
        key, path = SealingKey(bytes.fromhex(self.secret)), Path(self.path)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        unfinished = Path(f"{path}{_UNFINISHED}")
        try:
            with open(unfinished, "wb", opener=_private) as file:
                parts = range(0, max(len(content), 1), PART)
                for start in parts:
                    file.write(key.seal(content[start : start + PART], _part(start, start == parts[-1])))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        except OSError:
            unfinished.unlink(missing_ok=True)  # on a disk that is full it would be what the commit lacks
            raise
        sync_directory(path.parent)

    def read(self) -> bytes | None:
        """What was written last; None if there is nothing, or nothing whole. Raises OSError."""
        key, path = SealingKey(bytes.fromhex(self.secret)), Path(self.path)
        try:
            sealed = path.read_bytes()
            starts = range(0, max(len(sealed), 1), PART + _SEAL)
            texts = (
                key.unseal(sealed[at : at + PART + _SEAL], _part(number * PART, at == starts[-1]))
                for number, at in enumerate(starts)
            )
            return b"".join(texts)
        except (FileNotFoundError, Unsealable):
            return None


class CheckpointStore:
    """The checkpoints of all tasks. Opening one removes what is too old, or all if none are kept.

    What the disk does not let go is logged and stays until the next start: no task and no memory depends on it.

    Arguments:
        directory: where they lie; made by the first that is written.
        key: the operator's; None: none are kept.
        seconds: between two checkpoints of a task; 0: none are kept.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        directory: Path,
        key: SealingKey | None = None,
        seconds: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory, self._key, self._seconds, self._clock = directory, key, seconds, clock
        self.expire()

    @property
    def kept(self) -> bool:
        """Whether checkpoints are kept at all."""
        return self._key is not None and self._seconds > 0

    def slot(self, memory: str, task: str, attempt: str) -> Slot | None:
        """Where a task is put down; what it has left under other terms, or with other data, is removed.

        Arguments:
            attempt: all that two attempts must agree on if one is to go on from the other.
        """
        if self._key is None or not self.kept:
            return None
        path = self._directory / f"{_prefix(memory, task)}{_hashed(attempt)}"
        for other in self._of(_prefix(memory, task)):
            if other != path:
                _remove(other)
        context = "\n".join(["checkpoint", memory, task, attempt])
        secret = HKDF(SHA256(), KEY_BYTES, salt=None, info=context.encode()).derive(self._key.secret)
        return Slot(str(path.absolute()), secret.hex(), self._seconds)

    def drop(self, memory: str, task: str | None = None) -> bool:
        """Removes the checkpoints of a task, or of all tasks of a memory; says whether all of them are gone."""
        prefix = f"{_hashed(memory)}-" if task is None else _prefix(memory, task)
        for path in self._of(prefix):
            _remove(path)
        return not any(self._of(prefix))

    def keep_only(self, tasks: Iterable[tuple[str, str]]) -> None:
        """Removes what a server has left that was killed: all but the whole checkpoints of some (memory, task)."""
        prefixes = tuple(_prefix(*key) for key in tasks)
        for path in self._of(""):
            if not path.name.startswith(prefixes) or path.name.endswith(_UNFINISHED):
                _remove(path)

    def expire(self) -> None:
        """Removes those that nobody came back for in time."""
        oldest = self._clock() - LIFETIME if self.kept else float("inf")
        for path in self._of(""):
            _remove(path, oldest)

    def _of(self, prefix: str) -> Iterator[Path]:
        return self._directory.glob(f"{prefix}*")


def _remove(path: Path, oldest: float = float("inf")) -> None:
    """Removes a file that was written before some time; it may vanish meanwhile, as workers write and tasks end."""
    try:
        if path.stat().st_mtime < oldest:
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        structlog.get_logger().error("a checkpoint was not removed", file=path.name, error=error.strerror)


def _prefix(memory: str, task: str) -> str:
    return f"{_hashed(memory)}-{_hashed(task)}-"


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_NAME]


def _part(start: int, last: bool) -> str:
    """The context that a part is sealed in: parts can be neither exchanged nor cut off."""
    return f"checkpoint from {start}{', the end' if last else ''}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
