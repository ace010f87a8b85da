"""The ways from the server to a learner on the same machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memory_client import Memory

from sampling.bench import MEMORY, Bench, Row, offers
from sampling.single import BATCH, streamed

TCP, UNIX, SHARED = "TCP", "unix socket", "shared memory"
DTYPES = ("uint8", "float32")
SOCKET_SETTING, SHARED_SETTING = "unix_socket", "shared_memory"


def measure(bench: Bench) -> Iterator[Row]:
    """One client over TCP, over a unix socket and through shared memory, as uint8 and as float32."""
    for generator in bench.generators:
        over_tcp: dict[str, float] = {}
        for way, settings in ways(bench.folder).items():
            with bench.serving(generator, **settings) as server:
                target = f"unix:{settings[SOCKET_SETTING]}" if way == UNIX else server.target
                for dtype in DTYPES:
                    bench.say(f"generator {generator}, {way}: {dtype}")
                    with Memory(target, name=MEMORY) as memory, memory.stream(batch_size=BATCH, dtype=dtype) as batches:
                        speed = streamed(batches, server, bench.seconds)
                    ratio, over = (speed.rate / over_tcp[dtype], TCP) if dtype in over_tcp else (None, "")
                    over_tcp.setdefault(dtype, speed.rate)
                    yield Row(f"{generator}, {way}, {dtype}", speed.rate, "images/s", ratio, over, detail=speed.detail)


def ways(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of a transport -> the server's settings for it; those that this server does not have are left out."""
    plain = {SHARED_SETTING: False} if offers(SHARED_SETTING) else {}
    found: dict[str, dict[str, Any]] = {TCP: plain}
    if offers(SOCKET_SETTING):
        found[UNIX] = plain | {SOCKET_SETTING: folder / "socket"}
    if offers(SHARED_SETTING):
        found[SHARED] = {SHARED_SETTING: True}
    return found
