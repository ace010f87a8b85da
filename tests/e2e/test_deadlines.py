"""A call whose deadline passes ends at the server as well, and gives back what it held, whatever it was waiting for."""

import asyncio
import threading
from contextlib import AsyncExitStack

import grpc
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub
from prometheus_client import CollectorRegistry

from dgm_core.manifest import DataSpec
from dgm_core.memories import new_manifest
from memory_server import app
from memory_server.learning.executor import LocalProcessExecutor
from memory_server.sampling.experts import ExpertCache
from memory_server.settings import Settings
from memory_server.store.blobs import BlobStore
from memory_server.store.datadir import ARRIVALS, DataDir
from memory_server.store.records import TaskRecord
from tests.conftest import Wire, images
from tests.memory_server.learning.fakes import learned

SECONDS = 1.0
MEMORY, LEARNING = "taught", "learning"
SPEC = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)
BLOCKING = ((ExpertCache, "solver"), (DataDir, "forget"), (BlobStore, "__getitem__"))


class Held:
    """A server in this process, where nothing that blocks comes to its end before `release` is set."""

    def __init__(self, path, release):
        self.path = path
        self.release = release
        self.registry = CollectorRegistry()
        self.target = ""

    def holds(self, method):
        """Calls of that method that are open, bytes of raw data, and files of memories that are being imported."""
        read = self.registry.get_sample_value
        calls = read("memory_server_open_calls", {"method": method}) or 0.0
        return calls, read("memory_server_held_bytes"), list((self.path / ARRIVALS).glob("*"))


@pytest.fixture
async def held(tmp_path, monkeypatch):
    def until(release, blocking):
        return lambda *arguments: release.wait(60) and blocking(*arguments)

    async def never(*_):
        await asyncio.Event().wait()

    with DataDir(tmp_path) as store:
        store.create_memory(MEMORY, new_manifest("dual", {}, DataSpec((1, 8, 8), "uint8"), seed=7))
        store.admit(TaskRecord(MEMORY, "t0", (0, 1), 40, "d0"))
        store.commit(MEMORY, "t0", learned("t0", 0))
    held = Held(tmp_path, threading.Event())
    monkeypatch.setattr(app, "CollectorRegistry", lambda: held.registry)
    for kind, name in BLOCKING:
        monkeypatch.setattr(kind, name, until(held.release, getattr(kind, name)))
    for name in ("learn", "renew"):
        monkeypatch.setattr(LocalProcessExecutor, name, never)
    async with AsyncExitStack() as stack:
        settings = Settings(port=0, data_dir=tmp_path, device="cpu", grace_seconds=0)
        held.target = (await stack.enter_async_context(app.serving(settings))).address
        stack.callback(held.release.set)
        yield held


async def half_a_task():
    x, y = images(2)
    yield Wire.header("half", "t0")
    yield Wire.chunk(x, y, (0, 1))
    await asyncio.Event().wait()


async def half_a_file():
    yield pb.ImportMemoryRequest(header=pb.ImportMemoryHeader(memory="half"))
    yield pb.ImportMemoryRequest(chunk=bytes.fromhex("8947454e4d454d0a"))
    await asyncio.Event().wait()


CALLS = {
    "LearnTask": lambda stub: stub.LearnTask(half_a_task(), timeout=SECONDS),
    "ImportMemory": lambda stub: stub.ImportMemory(half_a_file(), timeout=SECONDS),
    "ExportMemory": lambda stub: stub.ExportMemory(pb.ExportMemoryRequest(memory=MEMORY), timeout=SECONDS),
    "WatchTask": lambda stub: stub.WatchTask(pb.WatchTaskRequest(memory=LEARNING, task="t0"), timeout=SECONDS),
    "Sleep": lambda stub: stub.Sleep(pb.SleepRequest(memory=MEMORY), timeout=SECONDS),
    "Classify": lambda stub: stub.Classify(pb.ClassifyRequest(memory=MEMORY, spec=SPEC, x=bytes(64)), timeout=SECONDS),
    "ForgetTask": lambda stub: stub.ForgetTask(pb.ForgetTaskRequest(memory=MEMORY, task="t0"), timeout=SECONDS),
}


@pytest.mark.parametrize("method", CALLS)
async def test_a_call_ends_with_its_deadline_and_gives_back_what_it_held(held, method):
    async with grpc.aio.insecure_channel(held.target) as channel:
        stub = MemoryServiceStub(channel)
        x, y = images()
        await stub.LearnTask(Wire.messages(Wire, LEARNING, "t0", x, y, (0, 1)))
        before = held.holds(method)
        call = CALLS[method](stub)
        await asyncio.sleep(SECONDS / 2)
        assert held.holds(method)[0] == 1, "it had not begun, or was not held up"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call if hasattr(call, "__await__") else answers(call))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(2):
            while held.holds(method) != before:
                await asyncio.sleep(0.01)
        assert not held.release.is_set()


async def answers(stream):
    async for _ in stream:
        pass


async def test_what_was_begun_for_good_goes_on_without_its_caller(held):
    async with grpc.aio.insecure_channel(held.target) as channel:
        stub = MemoryServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await CALLS["ForgetTask"](stub)
        held.release.set()
        async with asyncio.timeout(10):
            while (await stub.ListTasks(pb.ListTasksRequest(memory=MEMORY))).tasks:
                await asyncio.sleep(0.01)
