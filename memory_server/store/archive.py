"""A memory as one file, which a server writes and any server of this format takes in.

    file = magic | version | length | header | blob | blob | ... | checksum

magic is 8 bytes, version a uint32 and length, that of the header, a uint64, both little-endian. The header is JSON: the
manifest of one revision, the records of its tasks, and [digest, bytes] of each blob in the order in which they follow.
The checksum is the SHA-256 of all before it, so that a file that was cut or changed anywhere is noticed. Nothing in it
is encrypted.
"""

import errno
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Never

from pydantic import TypeAdapter, ValidationError

from dgm_core.errors import CannotLearn
from dgm_core.manifest import Blobs
from memory_server.store.errors import BadArchive
from memory_server.store.records import Portable

MAGIC = b"\x89GENMEM\n"
VERSION = 1
MOST_HEADER_BYTES = 64 << 20
MOST_BLOB_BYTES = 1 << 30

_PREFIX = struct.Struct(f"<{len(MAGIC)}sIQ")
_CHECKSUM_BYTES = 32
_MOST = 2**63
_PORTABLE = TypeAdapter(Portable)


def size_of(portable: Portable) -> int:
    """Bytes of the file of a memory."""
    return len(_head(portable)) + sum(size for _, size in portable.blobs) + _CHECKSUM_BYTES


def pieces(portable: Portable, blobs: Blobs) -> Iterator[bytes]:
    """The file of a memory in consecutive pieces, a blob each. Raises KeyError if a blob is not there any more."""
    checksum = hashlib.sha256()
    for piece in _before_checksum(portable, blobs):
        checksum.update(piece)
        yield piece
    yield checksum.digest()


def _before_checksum(portable: Portable, blobs: Blobs) -> Iterator[bytes]:
    yield _head(portable)
    for digest, _ in portable.blobs:
        yield blobs[digest]


def _head(portable: Portable) -> bytes:
    text = json.dumps(asdict(portable), sort_keys=True, separators=(",", ":")).encode()
    return _PREFIX.pack(MAGIC, VERSION, len(text)) + text


class ArchiveReader:
    """Takes in a file as it comes, in pieces of any size; never holds more of it than one blob.

    Arguments:
        put: stores a blob and returns its SHA-256.
        room: free bytes on the disk that the blobs go to.
    """

    def __init__(self, put: Callable[[bytes], str], room: int) -> None:
        self._put = put
        self._room = room
        self._waiting = bytearray()
        self._checksum = hashlib.sha256()
        self._portable: Portable | None = None
        self._complete = False
        self._received = 0
        self._size: int | None = None
        self._parts = self._reading()
        self._wanted = next(self._parts)

    def feed(self, content: bytes) -> None:
        """Takes in the next bytes.

        Raises:
            BadArchive: they are not those of such a file.
            OSError: the disk is full or fails.
        """
        self._received += len(content)
        self._waiting += content
        while not self._complete and len(self._waiting) >= self._wanted:
            part = bytes(self._waiting[: self._wanted])
            del self._waiting[: self._wanted]
            try:
                self._wanted = self._parts.send(part)
            except StopIteration:
                self._complete = True
        if self._complete and self._waiting:
            raise BadArchive("something follows its end")

    @property
    def missing(self) -> float | None:
        """How many times what has come is still to come; None before its header has."""
        return None if self._size is None else (self._size - self._received) / self._received

    def finish(self) -> Portable:
        """What the file holds, all blobs of which are stored now. Raises BadArchive if it did not come to its end."""
        if not self._complete or self._portable is None:
            raise BadArchive("it ends too early")
        return self._portable

    def _reading(self) -> Any:
        """Says how many bytes it wants next, and is sent them."""
        prefix = self._counted((yield _PREFIX.size))
        head = self._counted((yield _header_length(prefix)))
        self._portable = read_header(head)
        blobs = sum(size for _, size in self._portable.blobs)
        self._check_room(blobs)
        self._size = len(prefix) + len(head) + blobs + _CHECKSUM_BYTES
        for digest, size in self._portable.blobs:
            blob = self._counted((yield size))
            if hashlib.sha256(blob).hexdigest() != digest:
                raise BadArchive(f"blob {digest} is damaged")
            self._put(blob)
        if (yield _CHECKSUM_BYTES) != self._checksum.digest():
            raise BadArchive("its checksum is not that of its content")

    def _counted(self, part: bytes) -> bytes:
        self._checksum.update(part)
        return part

    def _check_room(self, needed: int) -> None:
        if needed > self._room:
            raise OSError(errno.ENOSPC, f"the memory takes {needed} bytes and {self._room} are free")


def _header_length(prefix: bytes) -> int:
    magic, version, length = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise BadArchive("it does not begin as one; export a memory to get one")
    if version != VERSION:
        raise BadArchive(f"it has format {version} and this server reads {VERSION}; use a server that wrote it")
    if length > MOST_HEADER_BYTES:
        raise BadArchive(f"its header of {length} bytes is longer than {MOST_HEADER_BYTES}")
    return int(length)


def read_header(text: bytes) -> Portable:
    """The header of a file, its types and sizes checked. Raises BadArchive."""
    try:
        raw = json.loads(text, parse_int=_bounded, parse_constant=_refused)
        portable = _PORTABLE.validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadArchive(f"{'.'.join(map(str, first['loc']))} of its header: {first['msg']}") from None
    except (ValueError, RecursionError, CannotLearn) as error:
        raise BadArchive(f"its header cannot be read: {error}") from None
    if sorted(digest for digest, _ in portable.blobs) != sorted(portable.manifest.digests):
        raise BadArchive("its blobs are not those that its manifest names")
    if not all(0 < size <= MOST_BLOB_BYTES for _, size in portable.blobs):
        raise BadArchive(f"a blob has 1 to {MOST_BLOB_BYTES} bytes")
    return portable


def _bounded(text: str) -> int:
    if len(text) > 20 or not -_MOST <= int(text) < _MOST:
        raise ValueError("a number has more than 64 bits")
    return int(text)


def _refused(name: str) -> Never:
    raise ValueError(f"{name} is no number")
