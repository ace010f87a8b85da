import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from harness import processes
from harness.processes import DidNotStart, Running, running
from sampling import load, rivals

HERE = Running("nowhere", os.getpid())
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("stub ready on", child.pid, flush=True)
time.sleep(600)
"""


def in_bursts(images, pause):
    async def read():
        while True:
            await asyncio.sleep(pause)
            yield images

    return read


def test_clients_that_are_all_served_in_bursts_are_counted_over_whole_bursts():
    both, _ = load.throughput(HERE, in_bursts(100, 0.3), clients=3, seconds=0.05)
    assert both.rate == pytest.approx(3 * 100 / 0.3, rel=0.3)


def test_a_client_that_fails_ends_the_measurement():
    async def refused():
        raise RuntimeError("no")
        yield

    with pytest.raises(ExceptionGroup):
        load.throughput(HERE, refused, clients=2, seconds=0.05)


def test_a_client_that_gets_nothing_ends_the_measurement(monkeypatch):
    monkeypatch.setattr(load, "MOST_SECONDS", 0.1)
    with pytest.raises(ExceptionGroup):
        load.throughput(HERE, in_bursts(1, 60), clients=1, seconds=0.05)


def test_a_client_of_a_peer_without_streams_keeps_two_requests_under_way():
    open_now, most = 0, 0

    async def answer(source, sink):
        nonlocal open_now, most
        with suppress(asyncio.IncompleteReadError):
            while await source.readuntil(b"{}"):
                open_now += 1
                most = max(most, open_now)
                await asyncio.sleep(0.01)
                open_now -= 1
                sink.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6144\r\nserver: test\r\n\r\n" + bytes(2 * 3072))
        sink.close()

    async def count():
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            reader = rivals.posts(f"127.0.0.1:{port}")()
            got = [await anext(reader) for _ in range(6)]
            await reader.aclose()
            await asyncio.sleep(0.05)  # both ends see that the connection is closed
            return got

    assert asyncio.run(count()) == [2] * 6
    assert most == rivals.IN_FLIGHT


def test_a_server_and_its_children_end_with_the_block_even_if_they_do_not_want_to(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    with pytest.raises(KeyboardInterrupt), running([sys.executable, "-c", STUBBORN]) as server:
        raise KeyboardInterrupt
    for pid in (server.pid, int(server.target)):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_server_that_cannot_start_says_why():
    with (
        pytest.raises(DidNotStart, match="no such port"),
        running([sys.executable, "-c", "raise SystemExit('no such port')"]),
    ):
        pass


def test_a_server_keeps_to_its_cores_and_is_charged_for_its_children():
    core = min(os.sched_getaffinity(0))
    busy = "import time; print('stub ready on here', flush=True)\nwhile time.process_time() < 0.4: pass\ntime.sleep(60)"
    with running([sys.executable, "-c", busy], cores=[core]) as server:
        assert os.sched_getaffinity(server.pid) == {core}
        deadline = time.monotonic() + 30
        while server.cpu_seconds() < 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert 0.3 <= server.cpu_seconds() < 5 and server.resident_bytes() > 1 << 20


INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background has had it ignored
runpy.run_module("sampling", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_an_interrupted_benchmark_leaves_no_server_behind(tmp_path):
    command = [sys.executable, "-c", INTERRUPTIBLE, "--only", "clients", "--seconds", "60", "--generators", "24-12-6"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        env=environment,
        stderr=subprocess.PIPE,
    )
    for line in process.stderr:
        if b"1 clients" in line:
            break
    servers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert servers and process.returncode == 1 and b"interrupted" in said and b"Traceback" not in said
    assert not any(server.is_running() for server in servers)
