"""Content-addressed immutable files: `blobs/ab/abcdef...`, named by the SHA-256 of their content.

In an encrypted directory a file is sealed by the blob's own key; its name is that of the content all the same.
"""

import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

from memory_server.secrecy import pass_on
from memory_server.store.errors import CorruptBlob, LostBlob
from memory_server.store.sealing import SealingKey, Unsealable

_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".unfinished"


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable: a rename alone may be lost in a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class BlobStore(Mapping[str, bytes]):
    """Digest -> bytes. Opening one changes nothing on disk, so a worker may read while the server writes.

    Arguments:
        directory: where the blobs are; made by the first `put`.
        keys: of the blobs, by digest; `put` adds to them. None: nothing is encrypted.

    Attributes:
        lost: those that are not to be had: reading one raises LostBlob until it is stored again.
    """

    def __init__(self, directory: Path, keys: MutableMapping[str, SealingKey] | None = None) -> None:
        self.directory = directory
        self._keys = keys
        self.lost: set[str] = set()

    def beside(self, directory: Path) -> "BlobStore":
        """Another store that is encrypted if this one is, by keys that are in memory alone until `adopt` takes them."""
        return BlobStore(directory, None if self._keys is None else {})

    def put(self, content: bytes) -> str:
        """Stores bytes durably and returns their SHA-256 in hexadecimal. Storing them again changes nothing.

        Raises:
            OSError: the disk is full or fails; nothing of it is left behind.
        """
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        self._make(path.parent)
        if not self._intact(path, digest):
            write_durably(path, self._sealed(digest, content))
            self.lost.discard(digest)
        sync_directory(path.parent)
        return digest

    def __getitem__(self, digest: str) -> bytes:
        """The bytes of a blob. Raises KeyError if there is none, CorruptBlob if they do not match their name."""
        if digest in self.lost:
            raise LostBlob(digest)
        try:
            path = self._path(digest)
            content = self._unsealed(digest, path.read_bytes())
        except (FileNotFoundError, ValueError):
            raise KeyError(digest) from None
        except Unsealable:
            raise CorruptBlob(path) from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise CorruptBlob(path)
        return content

    def sound(self, digest: str) -> bool:
        """Whether a blob is there and matches its name; reads it piece by piece unless it is encrypted."""
        try:
            if self._keys is not None:
                return bool(self[digest])
            with self._path(digest).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest
        except (KeyError, CorruptBlob, OSError):
            return False

    def move(self, digest: str, folder: Path) -> None:
        """Puts the file of a blob, if there is one, into another folder, where nothing is overwritten."""
        folder.mkdir(mode=0o700, exist_ok=True)
        place = folder / digest
        with suppress(FileNotFoundError):
            self._path(digest).rename(place.with_suffix(f".{uuid.uuid4().hex}") if place.exists() else place)
        sync_directory(folder)

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and _DIGEST.fullmatch(digest) is not None and self._path(digest).is_file()

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self.directory.glob("??/*") if _DIGEST.fullmatch(path.name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def delete(self, digests: Iterable[str]) -> None:
        """Removes blobs; those that are not there are no error."""
        for digest in digests:
            self._path(digest).unlink(missing_ok=True)

    def adopt(self, other: "BlobStore") -> None:
        """Takes over the blobs of another store on the same disk, which is empty then but for those that are here."""
        for digest in list(other):
            path = self._path(digest)
            self._make(path.parent)
            if not self._intact(path, digest):
                other._path(digest).rename(path)
                self.lost.discard(digest)
                if self._keys is not None and other._keys is not None:
                    self._keys[digest] = other._keys[digest]
            sync_directory(path.parent)

    def orphans(self, referenced: Collection[str]) -> set[str]:
        """The blobs that are there but that nothing refers to."""
        return set(self).difference(referenced)

    def unfinished(self) -> list[Path]:
        """What is being written, or was when a server was killed."""
        return list(self.directory.glob(f"??/*{_UNFINISHED}"))

    def remove_unfinished(self) -> None:
        """Removes what a killed server was writing. Only the one server that owns the directory may call this."""
        for path in self.unfinished():
            path.unlink(missing_ok=True)

    def _sealed(self, digest: str, content: bytes) -> bytes:
        if self._keys is None:
            return content
        key = self._keys[digest] = SealingKey.new()
        return key.seal(content, digest)

    def _unsealed(self, digest: str, content: bytes) -> bytes:
        return content if self._keys is None else self._keys[digest].unseal(content, digest)

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"a blob is named by 64 hexadecimal digits, not {digest!r}")
        return self.directory / digest[:2] / digest

    def _make(self, directory: Path) -> None:
        for level in (self.directory, directory):
            with suppress(FileExistsError):
                level.mkdir(mode=0o700)
                sync_directory(level.parent)

    def _intact(self, path: Path, digest: str) -> bool:
        try:
            self[digest]
        except KeyError:
            return False
        except CorruptBlob:
            path.unlink(missing_ok=True)
            return False
        return True


def write_durably(path: Path, content: bytes) -> None:
    """Writes beside the final name and renames: a reader sees the whole file or none. Mode 0600, or that of the old."""
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, suffix=_UNFINISHED)
    try:
        with os.fdopen(descriptor, "wb") as file:
            pass_on(descriptor, path)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).rename(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
