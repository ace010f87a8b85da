"""Learners of every make against a real server: loaders with workers, event loops, interrupts, a server that dies."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import pytest
import torch
from memory_client import Memory, TaskState, UnknownRevision, aio
from memory_client.torch import ReplayDataset, mixed
from torch.utils.data import DataLoader

SIZE = 24

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than there are processors


@pytest.fixture
def memory(server, taught):
    """The shared memory of the classes 0 to 3, which nobody changes."""
    with Memory(server.target, taught) as memory:
        yield memory


def loader(dataset, workers, context="fork", **options):
    return DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context, **options)


def same(batches, wanted):
    for (x, y), (want_x, want_y) in zip(batches, wanted, strict=True):
        np.testing.assert_array_equal(x, want_x)
        np.testing.assert_array_equal(y, want_y)


# Loaders


@pytest.mark.parametrize(
    ("context", "workers", "batch_size", "n"),
    [
        ("fork", 1, SIZE, 100),
        ("fork", 3, SIZE, 500),
        ("fork", 4, 300, 1000),
        ("fork", 3, 7, 9),
        ("spawn", 2, SIZE, 500),
    ],
)
def test_workers_give_a_seeded_stream_in_its_order(memory, context, workers, batch_size, n):
    asked = {"batch_size": batch_size, "seed": 5, "n": n}
    dataset = ReplayDataset(memory, **asked)
    wanted = list(memory.stream(**asked))

    for _ in range(2):
        same(loader(dataset, workers, context), wanted)
    assert len(loader(dataset, workers, context)) == len(dataset) == -(-n // batch_size)


@pytest.mark.gpu
def test_a_pinned_batch_that_is_dropped_while_a_part_of_it_is_copied_is_not_written_to(memory):
    rows, half = 2048, 1024  # 256 KiB of floats: what is much smaller is copied at once
    asked = {"batch_size": rows, "seed": 5, "dtype": "float32"}
    copies = []
    for x, _ in islice(ReplayDataset(memory, pin_memory=True, **asked), 8):
        torch.cuda._sleep(10**9)  # cycles, about half a second, in which further batches come
        copies.append(x[half:].to("cuda", non_blocking=True))
        del x
    for copied, (wanted, _) in zip(copies, memory.stream(**asked), strict=False):
        np.testing.assert_array_equal(copied.cpu(), wanted[half:])


def test_ranks_with_workers_share_a_seeded_stream(memory):
    asked = {"batch_size": SIZE, "seed": 5, "n": 500}
    wanted = list(memory.stream(**asked))

    for rank in range(3):
        dataset = ReplayDataset(memory, start_at=rank, stride=3, **asked)
        same(loader(dataset, 2), wanted[rank::3])
        assert len(dataset) == len(wanted[rank::3])


def test_workers_that_stay_give_the_same_again(memory):
    dataset = ReplayDataset(memory, batch_size=SIZE, seed=5, n=200)
    kept = loader(dataset, 2, persistent_workers=True)

    wanted = list(memory.stream(batch_size=SIZE, seed=5, n=200))
    same(kept, wanted)
    same(kept, wanted)


def test_workers_without_a_seed_have_n_rows_between_them_and_no_row_twice(server, wire, name):
    wire.learn(name, "t0", (0, 1), options={"seed": "0"})  # wide enough to tell any two noise vectors apart
    with Memory(server.target, name) as memory:
        dataset = ReplayDataset(memory, batch_size=SIZE, n=500, dtype="float32")
        x, y = (np.concatenate(parts) for parts in zip(*loader(dataset, 3), strict=True))

    assert len(np.unique(x.reshape(500, -1), axis=0)) == 500
    assert np.bincount(y).tolist() == [250, 250]


def test_an_endless_loader_can_be_left(memory):
    batches = list(islice(loader(ReplayDataset(memory, batch_size=SIZE, seed=5), 3), 10))

    same(batches, islice(memory.stream(batch_size=SIZE, seed=5), 10))


def test_forked_workers_read_after_their_parent_has_streamed(memory):
    dataset = ReplayDataset(memory, batch_size=SIZE, seed=5, n=100)
    wanted = list(memory.stream(batch_size=SIZE, seed=5, n=100))

    for _ in range(5):
        with memory.stream(batch_size=256) as stream:
            next(stream)
        same(loader(dataset, 2), wanted)


def test_workers_that_are_forked_in_the_middle_of_a_stream_read_and_so_does_their_parent(memory):
    asked = {"batch_size": SIZE, "seed": 5, "n": 100}
    dataset = ReplayDataset(memory, **asked)
    wanted = list(memory.stream(**asked))

    with memory.stream(batch_size=SIZE, seed=5) as stream:
        for want in wanted[:4]:
            same([next(stream)], [want])
            same(loader(dataset, 2), wanted)


def test_a_worker_says_what_the_server_refuses(memory):
    with pytest.raises(UnknownRevision, match="no revision 77"):
        list(loader(ReplayDataset(memory, revision=77, n=10), 2))


def test_real_and_synthetic_images_are_mixed_from_workers(memory, make_images):
    x, y = make_images(200, (8, 9))
    real = DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y + 8)), 20, num_workers=2)

    batches = list(mixed(real, memory, 0.5, seed=1))

    labels = torch.cat([y for _, y in batches])
    assert [len(y) for _, y in batches] == [40] * 10
    assert labels.bincount().tolist() == [50, 50, 50, 50, 0, 0, 0, 0, 100, 100]


def test_images_come_in_the_format_of_the_learner(memory):
    dataset = ReplayDataset(memory, batch_size=SIZE, n=SIZE, seed=1, dtype=torch.float16, layout="NHWC", size=(16, 12))
    ((x, _),) = dataset
    assert (x.dtype, tuple(x.shape)) == (torch.float16, (SIZE, *dataset.shape)) == (torch.float16, (SIZE, 16, 12, 1))


# Event loops


async def test_the_whole_life_of_a_memory_on_an_event_loop(server, name, make_images):
    x, y = make_images(60)

    async def arriving():
        for at in range(0, 60, 20):
            await asyncio.sleep(0)
            yield x[at : at + 20], y[at : at + 20]

    async with aio.Memory(server.target, name, options={"width": 4, "noise": 8}) as memory:
        handle = await memory.learn_task(arriving(), steps=10, wait=False)
        states = [task.state async for task in handle.watch()]
        assert states[-1] is TaskState.LEARNED
        assert (await handle.result()).count == 60
        assert await memory.classes() == (0, 1)
        sampled, labels = await memory.sample(n=40, seed=1)
        async with memory.stream(batch_size=10, n=40, seed=1) as stream:
            assert [len(labels) async for _, labels in stream] == [10] * 4
        assert (await memory.classify(sampled))[0].shape == labels.shape
        assert name in {each.name for each in await aio.Memory.list(server.target)}
        await memory.delete()


@pytest.mark.slow
async def test_a_stream_goes_on_exactly_after_its_server_was_killed_and_started_again(new_server, connect):
    server = new_server(port=free_port()).start()
    await asyncio.to_thread(connect(server).learn, "m", "t0")
    asked = {"batch_size": 256, "seed": 5, "dtype": "float32"}  # 64 KiB each: far more than is on its way at any time
    async with aio.Memory(server.target, "m", reconnect=60) as memory:
        plain, strided = memory.stream(**asked), memory.stream(**asked, start_at=1, stride=3)
        batches, others = [await anext(plain) for _ in range(3)], [await anext(strided)]
        await asyncio.to_thread(server.restart, signal.SIGKILL)
        batches += [await anext(plain) for _ in range(60)]
        others += [await anext(strided) for _ in range(19)]

    with Memory(server.target, "m") as memory:
        wanted = list(islice(memory.stream(**asked), 63))
    same(batches, wanted)
    same(others, wanted[1:60:3])


async def test_an_event_loop_reads_many_streams_at_once(memory, server, taught):
    wanted = [list(islice(memory.stream(batch_size=SIZE, seed=seed), 4)) for seed in range(8)]

    async def read(seed):
        async with client.stream(batch_size=SIZE, seed=seed) as stream:
            return [await anext(stream) for _ in range(4)]

    async with aio.Memory(server.target, taught) as client:
        for batches, want in zip(await asyncio.gather(*map(read, range(8))), wanted, strict=True):
            same(batches, want)


# Interrupts

LOADING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background ignores it
from memory_client import Memory
from memory_client.torch import ReplayDataset
from torch.utils.data import DataLoader
if __name__ == "__main__":
    dataset = ReplayDataset(Memory(sys.argv[1], sys.argv[2]), batch_size=16)
    for _ in DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork"):
        print("reading", flush=True)
"""

AWAITING = """
import asyncio, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from memory_client.aio import Memory
async def main():
    async with Memory(sys.argv[1], sys.argv[2]) as memory:
        async for _ in memory.stream(batch_size=16):
            print("reading", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [LOADING, AWAITING])
def test_ctrl_c_ends_a_learner_at_once_with_all_its_workers(program, server, taught, tmp_path):
    script = tmp_path / "learner.py"
    script.write_text(program)
    with subprocess.Popen(
        [sys.executable, str(script), server.target, taught],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as learner:
        assert learner.stdout.readline() == "reading\n"
        os.killpg(learner.pid, signal.SIGINT)  # as a terminal does, to everyone
        began = time.monotonic()
        _, said = learner.communicate(timeout=30)

    assert time.monotonic() - began < 20
    assert learner.returncode in (-signal.SIGINT, 130, 1)
    assert "KeyboardInterrupt" in said
    with pytest.raises(ProcessLookupError):
        os.killpg(learner.pid, 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
