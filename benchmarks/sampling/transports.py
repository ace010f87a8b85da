"""The ways from the server to a learner on the same machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memory_client import Memory

from sampling.bench import MEMORY, Bench, Row, offers
from sampling.single import BATCH, streamed

TCP, UNIX, SHARED = "TCP", "unix socket", "shared memory"
SOCKET_SETTING, SHARED_SETTING = "unix_socket", "shared_memory"


def measure(bench: Bench) -> Iterator[Row]:
    """One client over TCP, over a unix socket and through shared memory, as uint8 and as float32."""
    for generator in bench.generators:
        for dtype in ("uint8", "float32"):
            over_tcp: float | None = None
            for way, settings in ways(bench.folder).items():
                bench.say(f"generator {generator}, {dtype}: {way}")
                with bench.serving(generator, **settings) as server:
                    target = f"unix:{settings[SOCKET_SETTING]}" if way == UNIX else server.target
                    with Memory(target, name=MEMORY) as memory, memory.stream(batch_size=BATCH, dtype=dtype) as batches:
                        speed = streamed(batches, server, bench.seconds)
                over_tcp = over_tcp or speed.rate
                what = f"{generator}, {dtype}, {way}"
                yield Row(what, speed.rate, "images/s", speed.rate / over_tcp, TCP, detail=speed.detail)


def ways(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of a transport -> the server's settings for it; those that this server does not have are left out."""
    plain = {SHARED_SETTING: False} if offers(SHARED_SETTING) else {}
    found: dict[str, dict[str, Any]] = {TCP: plain}
    if offers(SOCKET_SETTING):
        found[UNIX] = plain | {SOCKET_SETTING: folder / "socket"}
    if offers(SHARED_SETTING):
        found[SHARED] = {SHARED_SETTING: True}
    return found
