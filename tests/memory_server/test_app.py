import asyncio
import subprocess
import sys

from structlog.testing import capture_logs

from memory_server import app, settings
from memory_server.settings import Settings


async def test_the_sweeping_of_checkpoints_goes_on_after_a_sweep_that_failed(monkeypatch):
    swept, twice = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    class Failing:
        def expire(self):
            swept.append(1)
            if len(swept) == 2:
                loop.call_soon_threadsafe(twice.set)
            raise OSError("the disk fails")

    monkeypatch.setattr(app, "_SECONDS_BETWEEN_SWEEPS", 0.0)
    sweeping = asyncio.create_task(app._expire(Failing()))
    await asyncio.wait_for(twice.wait(), 10)
    sweeping.cancel()


def test_settings_that_allow_more_memory_than_there_is_are_a_warning_that_says_what_to_lower(monkeypatch):
    monkeypatch.setattr(settings, "_memory_bytes", lambda: 8 << 30)
    with capture_logs() as lines:
        assert app._bounds(Settings(learners=2), cuda=False).memory_bytes == 9 << 28
        assert lines == []
        assert app._bounds(Settings(learners=2, worker_memory_bytes=3 << 30), cuda=False).memory_bytes == 3 << 30
    (line,) = lines
    assert "--learners or --worker-memory-bytes" in line["event"]
    assert (line["missing_bytes"], line["worker_bytes"], line["learners"]) == (3 << 29, 3 << 30, 2)


SERVING = """
import ctypes, resource
from memory_server import app
from memory_server.settings import Settings
PR_GET_DUMPABLE = 3
async def serve(*_):
    print(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
app._serve = serve
app.run(Settings, print)
"""


def test_no_other_process_of_its_user_may_read_the_memory_of_a_server_and_no_core_dump_holds_it():
    ran = subprocess.run([sys.executable, "-c", SERVING], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0", "0", "0"]
