"""Connections that speak no HTTP/2, broken HTTP/2, or HTTP/2 one byte at a time."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_HEADERS = 4
AT_A_TIME = 16
_PATIENCE = 0.05
"""Seconds for which a client listens before it hangs up."""


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """One frame of HTTP/2."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def opening(method: str) -> bytes:
    """All that a client says before the first message of a call."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/memory_api.v1.MemoryService/{method}",
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(b"\0" + _counted(name) + _counted(value) for name, value in fields.items())
    return PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, block)


def conversation(source: random.Random) -> bytes:
    """What one connection says: nothing that any server should take for a call."""
    return source.choice(_CONVERSATIONS)(source)


async def converse(target: str, count: int, seed: int = 0) -> None:
    """Opens so many connections, some at a time, says something, listens a little, and hangs up or breaks off."""
    numbers = iter(range(count))

    async def keep_conversing() -> None:
        for number in numbers:
            source = random.Random(seed * 1_000_003 + number)
            await _say(target, conversation(source), abruptly=source.random() < 0.5)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_A_TIME):
            group.create_task(keep_conversing())


async def drip(target: str, seconds: float) -> bool:
    """Sends a message of an upload byte by byte, so many seconds apart; whether the server ended it first."""
    reader, writer = await _connect(target)
    try:
        writer.write(opening("LearnTask") + frame(DATA, 0, 1, struct.pack(">BI", 0, 1000)))
        for _ in range(999):
            writer.write(frame(DATA, 0, 1, b"\x0a"))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while said := await reader.readexactly(9):
                        length = int.from_bytes(said[:3], "big")
                        await reader.readexactly(length)
                        if said[3] in (HEADERS, RST_STREAM):
                            return True
    except (asyncio.IncompleteReadError, ConnectionError):
        return True
    finally:
        writer.close()
    return False


async def _say(target: str, content: bytes, abruptly: bool) -> None:
    with suppress(ConnectionError):
        reader, writer = await _connect(target)
        if abruptly:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.write(content)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await writer.drain()
                await reader.read()
        writer.close()


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = target.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


def _counted(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _noise(source: random.Random) -> bytes:
    return source.randbytes(source.choice((1, 24, 1000, 100_000)))


def _frames(source: random.Random) -> bytes:
    """Frames of any type, length and stream, after a preface that is right."""
    sizes = (0, 1, 4, 8, 100, 16_384)
    some = [
        frame(source.randrange(256), source.randrange(256), source.randrange(2**32), source.randbytes(size))
        for size in source.choices(sizes, k=source.randrange(1, 20))
    ]
    return PREFACE + frame(SETTINGS, 0, 0) + b"".join(some)


def _lying_message(source: random.Random) -> bytes:
    """A call whose message is longer, shorter or more compressed than it says."""
    said = struct.pack(">BI", source.randrange(256), source.choice((0, 1, 2**20, 2**32 - 1)))
    method = source.choice(("GetMemory", "LearnTask", "Sample", "NoSuchMethod"))
    return opening(method) + frame(DATA, source.randrange(2), 1, said + source.randbytes(source.randrange(100)))


def _endless_headers(source: random.Random) -> bytes:
    block = [frame(CONTINUATION, 0, 1, source.randbytes(1000)) for _ in range(50)]
    return (
        PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 0, 1, b"\0" + _counted("a") + _counted("b")) + b"".join(block)
    )


def _rapid_resets(source: random.Random) -> bytes:
    """Calls that are cancelled as soon as they are made."""
    start = opening("ListMemories")
    headers = start[len(PREFACE) + 9 :]
    again = (headers[:5] + struct.pack(">I", stream) + headers[9:] for stream in range(3, 200, 2))
    return start + b"".join(each + frame(RST_STREAM, 0, 3 + 2 * n, b"\0\0\0\x08") for n, each in enumerate(again))


_CONVERSATIONS: tuple[Callable[[random.Random], bytes], ...] = (
    _noise,
    _frames,
    _lying_message,
    _endless_headers,
    _rapid_resets,
    lambda _: b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    lambda source: PREFACE[: source.randrange(len(PREFACE))],
    lambda source: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + source.randbytes(500),
    lambda source: PREFACE + frame(SETTINGS, 0, 0, source.randbytes(6 * 50)),
    lambda _: PREFACE + frame(SETTINGS, 0, 0) + frame(PING, 0, 0, bytes(8)) * 500,
)
