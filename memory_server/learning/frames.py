"""The protocol between server and worker: length-prefixed JSON with optional binary payloads. Never pickle.

    frame = uint32 head length | head | payload 0 | payload 1 | ...        head = {"kind", "body", "sizes"} as JSON

This module imports nothing heavy: a worker reads frames before it loads torch.
"""

import asyncio
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<I")
MAX_HEAD = 64 << 20
"""Bytes; a longer head means that the stream is out of step."""


class BrokenFrame(ConnectionError):
    """The stream ended inside a frame, or does not hold frames."""


@dataclass(frozen=True)
class Frame:
    """One message.

    Arguments:
        kind: "job", "restoring" or "sleeping", and "ending"; then "progress" and "alive"; then "learned", "renewed" or
            "error".
        body: what JSON can hold.
        payloads: raw bytes that come with it.
    """

    kind: str
    body: dict[str, Any] = field(default_factory=dict)
    payloads: tuple[bytes, ...] = ()


def encode(frame: Frame) -> Iterator[bytes]:
    """The frame as consecutive pieces; payloads are not copied."""
    head = {"kind": frame.kind, "body": frame.body, "sizes": [len(payload) for payload in frame.payloads]}
    text = json.dumps(head, separators=(",", ":")).encode()
    yield _LENGTH.pack(len(text)) + text
    yield from frame.payloads


def read(stream: BinaryIO) -> Frame | None:
    """The next frame of a blocking stream, None at its end. Raises BrokenFrame."""
    prefix = stream.read(_LENGTH.size)
    if not prefix:
        return None
    kind, body, sizes = _parse(_exactly(stream, _head_length(prefix)))
    return Frame(kind, body, tuple(_exactly(stream, size) for size in sizes))


async def read_async(stream: asyncio.StreamReader) -> Frame | None:
    """The next frame of an asyncio stream, None at its end. Raises BrokenFrame."""
    try:
        prefix = await stream.readexactly(_LENGTH.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BrokenFrame("the stream ended inside a frame") from None
        return None
    try:
        kind, body, sizes = _parse(await stream.readexactly(_head_length(prefix)))
        return Frame(kind, body, tuple([await stream.readexactly(size) for size in sizes]))
    except asyncio.IncompleteReadError:
        raise BrokenFrame("the stream ended inside a frame") from None


def _head_length(prefix: bytes) -> int:
    if len(prefix) < _LENGTH.size:
        raise BrokenFrame("the stream ended inside a frame")
    length: int = _LENGTH.unpack(prefix)[0]
    if length > MAX_HEAD:
        raise BrokenFrame(f"a head of {length} bytes is longer than {MAX_HEAD}")
    return length


def _parse(head: bytes) -> tuple[str, dict[str, Any], list[int]]:
    try:
        raw = json.loads(head)
        return raw["kind"], raw["body"], raw["sizes"]
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenFrame(f"this is no head of a frame: {error}") from None


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise BrokenFrame("the stream ended inside a frame")
    return content
