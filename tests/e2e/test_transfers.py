"""Memories travel between servers as files."""

import asyncio
import json
import subprocess
import sys

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import DamagedExport, InvalidInput, Memory, MemoryExists, UnknownMemory, aio


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Another server."""
    from tests.conftest import ServerProcess

    process = ServerProcess(tmp_path_factory.mktemp("elsewhere"))
    yield process.start()
    process.end()


@pytest.fixture
def exported(server, taught, tmp_path):
    path = tmp_path / "taught.memory"
    with Memory(server.target, taught) as memory:
        memory.export(path, progress=False)
    return path


def held(server):
    """All files of a server that a memory may leave."""
    return sorted(path for folder in ("blobs", "arrivals") for path in (server.data_dir / folder).rglob("*/*"))


def test_a_memory_is_the_same_to_the_bit_on_another_server(server, elsewhere, taught, exported, name, make_images):
    x, _ = make_images(8)
    with Memory(server.target, taught) as one, Memory.import_file(elsewhere.target, exported, name) as other:
        for classes, seed in ((None, 1), ([2, 0], 2)):
            ours, theirs = one.sample(classes, n=50, seed=seed), other.sample(classes, n=50, seed=seed)
            assert [each.tolist() for each in ours] == [each.tolist() for each in theirs]
        assert [each.tolist() for each in one.classify(x)] == [each.tolist() for each in other.classify(x)]
        described = one.describe().to_dict(), other.describe().to_dict()
        assert {**described[0], "name": name} == described[1]
        for ours, theirs in zip(one.tasks(), other.tasks(), strict=True):
            assert {**ours.to_dict(), "revision": 2, "memory": ""} == {**theirs.to_dict(), "memory": ""} | {
                "revision": 2
            }
        assert exported.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_an_imported_memory_learns_and_is_exported_again(elsewhere, exported, name, make_images, tmp_path):
    with Memory.import_file(elsewhere.target, exported, name) as memory:
        before = memory.sample([0, 1], n=20, seed=3)[0]
        x, y = make_images(40, (4, 5))
        memory.learn_task((x, y + 4), task="t2", steps=10, progress=False)
        assert np.array_equal(memory.sample([0, 1], n=20, seed=3)[0], before)
        memory.export(tmp_path / "again.memory", progress=False)
        with Memory.import_file(elsewhere.target, tmp_path / "again.memory", f"{name}2") as again:
            assert np.array_equal(again.sample([0, 1], n=20, seed=3)[0], before)
            assert again.classes == (0, 1, 2, 3, 4, 5)


def test_the_command_line_and_the_asyncio_client_do_the_same(server, elsewhere, taught, exported, name, tmp_path):
    def memoryctl(target, *arguments):
        command = [sys.executable, "-m", "memory_client.cli", "--target", target, "--json", *map(str, arguments)]
        return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    path = tmp_path / "cli.memory"
    shown = memoryctl(server.target, "export", taught, path)
    assert path.read_bytes() == exported.read_bytes()
    assert (shown["exported"], shown["bytes"]) == (taught, path.stat().st_size)
    assert memoryctl(elsewhere.target, "import", path, "--name", name)["tasks"] == 2

    async def there_and_back():
        async with await aio.Memory.import_file(elsewhere.target, path, f"{name}2") as memory:
            await memory.export(tmp_path / "aio.memory")
            with pytest.raises(DamagedExport):
                await aio.Memory.import_file(elsewhere.target, __file__, f"{name}3")

    asyncio.run(there_and_back())
    with Memory.import_file(elsewhere.target, tmp_path / "aio.memory", f"{name}4") as memory:
        assert len(memory.tasks()) == 2


@pytest.mark.parametrize(
    "damage", ["cut", "flipped in the header", "flipped in a blob", "longer", "empty", "another file"]
)
def test_a_damaged_file_is_refused_and_leaves_nothing(elsewhere, exported, name, damage):
    content = bytearray(exported.read_bytes())
    if damage.startswith("flipped"):
        content[300 if "header" in damage else len(content) // 2] ^= 4
    changed = {"cut": content[:-1], "longer": content + b"x", "empty": b"", "another file": b"PK" * 1000}
    exported.write_bytes(changed.get(damage, content))
    before = held(elsewhere)
    with pytest.raises(DamagedExport, match=r"not a whole exported memory.*export it again"):
        Memory.import_file(elsewhere.target, exported, name)
    assert held(elsewhere) == before
    with pytest.raises(UnknownMemory):
        Memory(elsewhere.target, name).describe()


def test_a_taken_or_malformed_name_and_a_missing_file_are_refused(server, taught, exported, tmp_path):
    before = held(server)
    with pytest.raises(MemoryExists, match="choose another name"):
        Memory.import_file(server.target, exported, taught)
    with pytest.raises(InvalidInput, match=r"header\.memory"):
        Memory.import_file(server.target, exported, "no name")
    with pytest.raises(InvalidInput, match="cannot be read"):
        Memory.import_file(server.target, tmp_path / "none", "fine")
    assert held(server) == before


def test_an_import_that_breaks_off_leaves_nothing_and_makes_way_for_the_next(
    elsewhere, exported, name, connect, eventually
):
    wire, content, before = connect(elsewhere), exported.read_bytes(), held(elsewhere)

    def half():
        yield pb.ImportMemoryRequest(header=pb.ImportMemoryHeader(memory=name))
        for at in range(0, len(content) - 100, 100_000):
            yield pb.ImportMemoryRequest(chunk=content[at : at + 100_000][: len(content) - 100 - at])
        eventually(lambda: held(elsewhere) != before)
        refused = wire.refusal(lambda: wire.stub.ImportMemory(iter([next(half())])))
        assert (refused.reason, 1 <= refused.retry_after < 60) == ("SERVER_BUSY", True)
        call.cancel()
        yield pb.ImportMemoryRequest()

    call = wire.stub.ImportMemory.future(half())
    eventually(call.cancelled)
    eventually(lambda: held(elsewhere) == before)
    with Memory.import_file(elsewhere.target, exported, name) as memory:
        assert len(memory.tasks()) == 2


@pytest.mark.slow
def test_a_memory_whose_solver_is_missing_gets_one_where_it_is_imported(
    server, elsewhere, taught, exported, name, eventually, tmp_path
):
    with Memory.import_file(server.target, exported, name) as memory:
        memory.forget("t1")
        memory.export(tmp_path / "incomplete.memory", progress=False)
        memory.delete()
    with Memory.import_file(elsewhere.target, tmp_path / "incomplete.memory", name) as memory:
        eventually(lambda: memory.describe().complete)
        assert memory.classes == (0, 1)
