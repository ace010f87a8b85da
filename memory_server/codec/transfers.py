"""The messages in which memories travel between servers."""

from collections.abc import Iterator

from memory_api.v1 import memory_pb2 as pb

from dgm_core.manifest import Blobs
from memory_server.codec import values
from memory_server.errors import BadRequest, Superseded
from memory_server.store.archive import pieces, size_of
from memory_server.store.records import Portable

CHUNK_BYTES = 512 << 10


def export_header(portable: Portable) -> pb.ExportMemoryResponse:
    """What is said before the file."""
    header = pb.ExportMemoryHeader(revision=portable.manifest.revision, bytes=size_of(portable))
    return pb.ExportMemoryResponse(header=header)


def exported(name: str, portable: Portable, blobs: Blobs) -> Iterator[pb.ExportMemoryResponse]:
    """The file of a memory, of which one blob is held at a time. Raises Superseded if a blob is not there any more."""
    try:
        for piece in pieces(portable, blobs):
            for start in range(0, len(piece), CHUNK_BYTES):
                yield pb.ExportMemoryResponse(chunk=piece[start : start + CHUNK_BYTES])
    except KeyError:
        raise Superseded(name) from None


def import_name(message: pb.ImportMemoryRequest | None) -> str:
    """The name that a file is to be imported under. Raises BadRequest."""
    if message is None or message.WhichOneof("message") != "header":
        raise BadRequest("header", "the first message must be the header; send it before the file")
    return values.name(message.header.memory, "header.memory")


def import_chunk(message: pb.ImportMemoryRequest) -> bytes:
    """The next bytes of a file. Raises BadRequest."""
    if message.WhichOneof("message") != "chunk":
        raise BadRequest(message.WhichOneof("message") or "message", "after the header comes the file, in chunks")
    return message.chunk
