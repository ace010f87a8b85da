"""A memory that is being imported."""

import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self

from memory_server.store.archive import ArchiveReader
from memory_server.store.blobs import BlobStore
from memory_server.store.errors import BadArchive, NotImported, written
from memory_server.store.records import MemoryRecord, Portable

Adopt = Callable[[str, Portable, BlobStore], MemoryRecord]

_SOONEST, _LATEST = 1.0, 300.0
"""What is told of how long it takes: it may break off at any time."""


class Arrival:
    """A memory on its way in: its file is read as it comes, its blobs wait beside those of the directory.

    Nothing of it is left when the block that it is for ends, unless it was kept.

    Arguments:
        place: the folder where such memories wait, in the data directory.
        store: the blobs of that directory.
        adopt: makes a memory of its name, of what it is and of the store where its blobs are.
        clock: seconds, never going back.
    """

    def __init__(
        self, place: Path, store: BlobStore, adopt: Adopt, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = place / uuid.uuid4().hex
        self._adopt = adopt
        self._clock = clock
        self._since = clock()
        self._lock = threading.Lock()
        self._gone = False
        self.blobs = store.beside(self._folder)
        self._reader = ArchiveReader(self.blobs.put, shutil.disk_usage(place.parent).free)

    def __enter__(self) -> Self:
        with written(NotImported):
            for folder in (self._folder.parent, self._folder):
                folder.mkdir(mode=0o700, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # a caller that goes away leaves a thread behind that still writes
            self._gone = True
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def seconds_left(self) -> float:
        """About how long it will still take at the rate so far.

        As long again as it has taken, while its size is unknown and once all has come, which is then looked at.
        """
        taken = self._clock() - self._since
        return min(max(taken * (self._reader.missing or 1.0), _SOONEST), _LATEST)

    def feed(self, content: bytes) -> None:
        """Takes in the next bytes of the file.

        Raises:
            BadArchive: they are not those of an exported memory.
            NotImported: the disk is full or fails.
        """
        with self._lock:
            if self._gone:
                return
            with written(NotImported):
                self._reader.feed(content)

    def finish(self) -> Portable:
        """What has arrived. Raises BadArchive if that is not the whole file."""
        return self._reader.finish()

    def keep(self, name: str) -> MemoryRecord:
        """Makes the memory part of the directory. Raises MemoryExists, NotImported, BadArchive."""
        with self._lock:
            if self._gone:
                raise BadArchive("it was given up")
            return self._adopt(name, self.finish(), self.blobs)
