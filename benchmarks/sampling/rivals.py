"""The same generator behind what a user would otherwise run."""

import asyncio
import os
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import memory_api
from harness.processes import Running, running

import dgm_core
from sampling.bench import SPEC, Bench, Goal, Row
from sampling.load import Reader, stream, throughput

PEERS = Path(__file__).parent / "peers"
PLAIN, RAY, LITSERVE = "plain grpc.aio", "Ray Serve", "LitServe"
SCRIPTS = {PLAIN: "plain.py", RAY: "ray_serve.py", LITSERVE: "lit_serve.py"}
NEEDS = {PLAIN: "grpc", RAY: "ray", LITSERVE: "litserve"}
SETUP = "make bench-peers-setup"
BATCH = 256
IN_FLIGHT = 2
"""Requests under way of a client whose server does not stream: as much ahead as a stream would be."""

MOST_CLIENTS = 100
REQUEST = b"POST /predict HTTP/1.1\r\nHost: peer\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def measure(bench: Bench) -> Iterator[Row]:
    """The same generator behind a plain grpc.aio handler, Ray Serve and LitServe: our throughput over theirs."""
    clients = [count for count in bench.clients if count <= MOST_CLIENTS]
    for generator in bench.generators:
        ours: dict[int, float] = {}
        with bench.serving(generator) as server:
            for count in clients:
                bench.say(f"generator {generator}: ours, {count} clients")
                both, theirs = throughput(server, stream(server.target, BATCH), count, bench.seconds)
                ours[count] = both.rate
                detail = {"server_cpu_us_per_image": 1e6 * theirs}
                yield Row(f"{generator}, ours, {count} clients", both.rate, "images/s", detail=detail)
        for peer in SCRIPTS:
            if not installed(bench.peers, peer):
                bench.say(f"{peer}: not measured: run {SETUP}")
                continue
            with serving(bench, peer, generator) as server:
                for count in clients:
                    bench.say(f"generator {generator}: {peer}, {count} clients")
                    try:
                        both, theirs = throughput(server, reader(peer, server.target), count, bench.seconds)
                    except ExceptionGroup as failed:  # one that gives up on its clients, as LitServe may on a hundred
                        bench.say(f"{peer}, {count} clients: not measured: {failed.exceptions[0]!r}")
                        continue
                    what, ratio = f"{generator}, {peer}, {count} clients", ours[count] / both.rate
                    detail = {"server_cpu_us_per_image": 1e6 * theirs}
                    yield Row(what, both.rate, "images/s", ratio, "theirs (ours over it)", Goal(1.0), detail)


def installed(python: Path, peer: str) -> bool:
    """Whether the peers' environment is there and has that one."""
    if not python.exists():
        return False
    return not subprocess.run(
        [python, "-c", f"import {NEEDS[peer]}, dgm_core"], env=_environment(), check=False, capture_output=True
    ).returncode


def serving(bench: Bench, peer: str, generator: str) -> AbstractContextManager[Running]:
    """A peer that serves the first task of a memory."""
    made, _ = bench.memory(generator)
    folder = bench.folder / f"{generator}-peers"
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(made.manifest.to_json())
    for digest, blob in made.blobs.items():
        (folder / "blobs" / digest).write_bytes(blob)
    command = [str(bench.peers), str(PEERS / SCRIPTS[peer]), str(folder), bench.device, str(BATCH)]
    return running(command, environment=_environment())


def reader(peer: str, target: str) -> Reader:
    """A client of that peer."""
    if peer == LITSERVE:
        return posts(target)
    return stream(target, BATCH, (("application", "bench"),) if peer == RAY else ())


def posts(target: str) -> Reader:
    """A client of an HTTP server that answers each POST with a batch: some connections, each asking again and again."""

    async def read() -> AsyncIterator[int]:
        host, _, port = target.partition(":")
        ways = [await asyncio.open_connection(host, int(port), limit=4 << 20) for _ in range(IN_FLIGHT)]
        asked = deque((way, asyncio.create_task(_post(*way))) for way in ways)
        try:
            while True:
                way, answer = asked[0]
                images = await answer
                asked.popleft()
                asked.append((way, asyncio.create_task(_post(*way))))
                yield images
        finally:
            for (_, sink), answer in asked:
                answer.cancel()
                sink.close()

    return read


async def _post(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> int:
    """How many images one request gave. Raises RuntimeError for any answer but 200."""
    sink.write(REQUEST)
    head = (await source.readuntil(b"\r\n\r\n")).decode().lower()
    if not head.startswith("http/1.1 200"):
        raise RuntimeError(f"the peer answered {head.splitlines()[0]!r}")
    length = int(head.partition("content-length:")[2].split("\r\n", 1)[0])
    return len(await source.readexactly(length)) // SPEC.nbytes


def _environment() -> dict[str, str]:
    """Where the peers find the generator, and our wire."""
    roots = (Path(package.__path__[0]).parent for package in (dgm_core, memory_api))
    return {"PYTHONPATH": os.pathsep.join([str(PEERS), *map(str, roots)])}
