"""Files of exported memories: how they are written and read, however the bytes travel."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from memory_api.v1 import memory_pb2 as pb

from memory_client.errors import InternalError, InvalidInput
from memory_client.progress import TransferListener

_PIECE_BYTES = 512 << 10
_CHECKSUM_BYTES = 32


class Download:
    """A file that appears at its place, mode 0600, when it is whole and its checksum is right, and not before.

    Arguments:
        path: where it shall be; what is there is replaced.
        listener: told how much has come.

    Raises:
        InvalidInput: there is a folder, a device or a pipe, which no file may replace.
        OSError: nothing can be written there.
    """

    def __init__(self, path: Path, listener: TransferListener) -> None:
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path} is no file: name one, which an export may replace")
        self._path = path
        self._listener = listener
        self._checksum = hashlib.sha256()
        self._end = b""
        self._bytes = self._total = 0
        descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.", suffix=".unfinished")
        self._file, self._unfinished = os.fdopen(descriptor, "wb"), Path(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()  # may have something left to write, and fail
        finally:
            self._unfinished.unlink(missing_ok=True)

    def take(self, message: pb.ExportMemoryResponse) -> None:
        """Writes what a message brings."""
        self._total = message.header.bytes or self._total
        self._file.write(message.chunk)
        held = self._end + message.chunk
        self._checksum.update(held[:-_CHECKSUM_BYTES])
        self._end = held[-_CHECKSUM_BYTES:]
        self._bytes += len(message.chunk)
        self._listener.moved(self._bytes, self._total)

    def finish(self) -> None:
        """Puts the file in its place. Raises InternalError if it is not what was sent."""
        if self._bytes != self._total or self._end != self._checksum.digest():
            raise InternalError(f"the export arrived damaged ({self._bytes} of {self._total} bytes); export it again")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unfinished.rename(self._path)


def upload(path: Path, name: str, listener: TransferListener) -> Iterator[pb.ImportMemoryRequest]:
    """The messages that import a file as a memory of that name. Raises InvalidInput if it cannot be read."""
    yield pb.ImportMemoryRequest(header=pb.ImportMemoryHeader(memory=name))
    try:
        with path.open("rb") as file:
            total, sent = os.fstat(file.fileno()).st_size, 0
            while piece := file.read(_PIECE_BYTES):
                sent += len(piece)
                listener.moved(sent, total)
                yield pb.ImportMemoryRequest(chunk=piece)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror}); name an exported memory") from error
