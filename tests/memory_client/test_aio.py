"""The asyncio client: the verbs of the other one, no task left behind, and what cancelling does."""

import asyncio
import gc
import inspect
import io
import pickle
import time
from itertools import islice

import grpc
import memory_client
import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import (
    CannotInterpolate,
    DeadlineExceeded,
    InvalidInput,
    MemoryClosed,
    QualityTooLow,
    ServerBusy,
    ServerUnavailable,
    TaskFinished,
    TaskInterrupted,
    TaskRejected,
    TaskState,
    UnknownClass,
    UnknownMemory,
    aio,
)
from memory_client.aio._ending import Ending
from memory_client.progress import TextProgress

SHAPE = (1, 2, 2)
IMAGES = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)


@pytest.fixture
async def client(server, taught):
    """The asynchronous client of a memory of the classes 0, 1 and 2."""
    async with aio.Memory(server.target, name="digits", reconnect=3) as client:
        yield client
    await no_stream_is_left()


def streams() -> list[asyncio.Task]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "memory-stream"]


async def no_stream_is_left() -> None:
    deadline = time.monotonic() + 5
    while streams() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert streams() == []


async def first(stream, count):
    """The first batches of a stream, which is closed."""
    batches = []
    async with stream:
        async for batch in stream:
            batches.append(batch)
            if len(batches) == count:
                break
    return batches


def x_of(batches):
    return np.concatenate([x for x, _ in batches])


# The same verbs


@pytest.mark.parametrize(("kind", "made_by_users"), [("Memory", {"__init__"}), ("TaskHandle", set())])
def test_both_clients_have_the_same_verbs_with_the_same_parameters(kind, made_by_users):
    one, other = getattr(memory_client, kind), getattr(aio, kind)
    names = {name for name in dir(one) if not name.startswith("_")}
    assert names == {name for name in dir(other) if not name.startswith("_")}
    for name in names | made_by_users:
        verb, twin = inspect.getattr_static(one, name), getattr(other, name)
        if isinstance(verb, property) and isinstance(inspect.getattr_static(other, name), property):
            continue
        if isinstance(verb, property):  # it calls the server, so that it has to be awaited
            assert inspect.iscoroutinefunction(twin) and list(inspect.signature(twin).parameters) == ["self"], name
            continue
        assert parameters(getattr(one, name)) == parameters(twin), name


def parameters(function):
    return [
        (each.name, each.kind, each.default, each.annotation)
        for each in inspect.signature(function).parameters.values()
    ]


async def test_both_clients_give_the_same(client, taught, server):
    for one, other in [
        (taught.sample(n=1001, seed=3), await client.sample(n=1001, seed=3)),
        (taught.sample(1, n=5, seed=1, dtype="float32"), await client.sample(1, n=5, seed=1, dtype="float32")),
        (taught.classify(IMAGES), await client.classify(IMAGES)),
        (taught.classify(IMAGES, "t0"), await client.classify(IMAGES, "t0")),
    ]:
        assert [(array.dtype, array.tolist()) for array in one] == [(array.dtype, array.tolist()) for array in other]
    np.testing.assert_array_equal(
        await client.interpolate("a", "b", [0, 0.5], 4, seed=1), taught.interpolate("a", "b", [0, 0.5], 4, seed=1)
    )
    assert await client.classes() == taught.classes == (0, 1, 2)
    assert await client.describe() == taught.describe()
    assert await client.tasks() == taught.tasks()
    assert await aio.Memory.list(server.target) == memory_client.Memory.list(server.target)
    assert await client.task("t0").task() == taught.task("t0").task
    assert repr(client) == repr(taught)


async def test_sleeping(client, taught, service):
    before = service.revision
    service.faults.lost_asleep = 1
    assert (await client.sleep()).revision == before
    with pytest.raises(memory_client.CannotSleep):
        await client.sleep()
    service.faults.awake = False
    assert (await client.sleep()).revision == before + 1


async def test_forgetting_and_deleting(client):
    await client.learn_task((IMAGES, [7, 8] * 3), task="t1", progress=False)
    assert (await client.forget("t1")).classes == (0, 1, 2)
    await client.delete()
    with pytest.raises(UnknownMemory, match="learn_task on a name creates"):
        await client.describe()


async def test_what_is_refused_is_refused_in_the_same_words(client, service):
    service.faults.blend = "CANNOT_BLEND"
    with pytest.raises(UnknownClass, match="the classes are") as caught:
        await client.sample([9])
    assert caught.value.reason == "UNKNOWN_CLASS"
    with pytest.raises(InvalidInput, match="n is 0: it must be at least 1"):
        await client.sample(n=0)
    with pytest.raises(InvalidInput, match="seed"):
        client.stream(seed=-1)
    with pytest.raises(CannotInterpolate):
        await client.interpolate("a", "b")
    with pytest.raises(InvalidInput, match="only start may be the base"):
        await client.interpolate("a", None)
    with pytest.raises(InvalidInput, match="weights is None: pass numbers"):
        await client.interpolate("a", "b", None)
    with pytest.raises(InvalidInput, match="empty"):
        aio.Memory(name="")


# Streams


async def test_a_stream_gives_exact_batches_that_the_caller_owns(client, rows_of):
    batches = await first(client.stream(batch_size=7, seed=5), 9)

    assert [len(y) for _, y in batches] == [7] * 9
    np.testing.assert_array_equal(x_of(batches), rows_of(range(63), SHAPE, 3, 5)[0])
    assert all(x.flags.writeable and x.base is None for x, _ in batches)


async def test_a_finite_stream_ends_with_what_remains_and_stays_at_its_end(client):
    stream = client.stream(batch_size=8, n=20)
    assert [len(y) async for _, y in stream] == [8, 8, 4]
    assert [len(y) async for _, y in stream] == []


async def test_a_seeded_stream_continues_where_it_broke_at_its_revision(client, service, rows_of):
    service.faults.lost_after_chunks = [5, 0, 3]
    stream = client.stream(batch_size=8, seed=4)
    batches = [await anext(stream)]
    service.revision = 2
    batches += await first(stream, 11)

    np.testing.assert_array_equal(x_of(batches), rows_of(range(96), SHAPE, 3, 4)[0])
    opened = [(request.start_at, request.revision) for request in service.requests[1:]]
    assert opened == [(0, 0), (3, 1), (3, 1), (4, 1)]


async def test_a_stream_that_breaks_after_its_last_row_is_at_its_end(client, service):
    service.faults.lost_after_chunks = [20]

    assert [len(y) async for _, y in client.stream(batch_size=64, n=100)] == [64, 36]
    assert len(service.requests) == 2  # what was learned, and one call


async def test_a_sample_that_breaks_is_completed(client, service, rows_of):
    service.cut = lambda row: 1500
    service.faults.lost_after_chunks = [5, 1]

    x, _ = await client.sample(n=9000, seed=6)

    np.testing.assert_array_equal(x, rows_of(range(9000), SHAPE, 3, 6)[0])


async def test_a_stream_survives_the_restart_of_its_server(client, server, rows_of):
    stream = client.stream(batch_size=8, seed=4)
    batches = [await anext(stream)]
    await asyncio.to_thread(server.stop)
    server.start()
    batches += await first(stream, 50)

    np.testing.assert_array_equal(x_of(batches), rows_of(range(408), SHAPE, 3, 4)[0])


async def test_a_server_that_stays_away_is_given_up_with_advice(client, server):
    client._connection.reconnect = 0.5
    async with client.stream(batch_size=8) as stream:
        await anext(stream)
        await asyncio.to_thread(server.stop)
        started = time.monotonic()
        for _ in range(2):  # however often it is asked
            with pytest.raises(ServerUnavailable, match="memory-server serve"):
                async for _ in stream:
                    pass
        assert 0.4 < time.monotonic() - started < 5


async def test_a_silent_server_is_given_up(client, service):
    client._connection.silence, service.faults.silent = 0.3, True

    with pytest.raises(ServerUnavailable, match=r"silent for 0\.3 s"):
        await anext(client.stream(seed=1))
    with pytest.raises(ServerUnavailable, match=r"silent for 0\.3 s"):
        await client.sample(seed=1)


async def test_leaving_the_loop_ends_the_task_and_the_call(client, service):
    async for _ in client.stream(batch_size=4):
        break

    await no_stream_is_left()
    assert await asyncio.to_thread(service.cancelled.wait, 5)


async def test_dropping_the_iterator_ends_the_task(client):
    stream = client.stream(batch_size=4)
    await anext(stream)
    assert streams()
    del stream
    gc.collect()

    await no_stream_is_left()


async def test_a_stream_that_was_closed_is_at_its_end_for_whoever_waits(client, service):
    service.faults.silent = True
    stream = client.stream(batch_size=4)
    waiting = [asyncio.create_task(anext(stream, "end")) for _ in range(2)]
    await asyncio.sleep(0.1)
    await stream.aclose()

    assert await asyncio.gather(*waiting) == ["end", "end"]
    assert streams() == []
    unused = client.stream(batch_size=4)
    await unused.aclose()
    assert [batch async for batch in unused] == []


async def test_closing_the_memory_ends_its_streams_and_a_later_call_opens_it_again(client):
    stream = client.stream(batch_size=4)
    await anext(stream)
    await client.close()

    assert streams() == []
    assert [batch async for batch in stream] == []
    assert await client.classes() == (0, 1, 2)


@pytest.mark.parametrize("verb", ["sample", "result", "sleep"])
async def test_who_waits_is_told_that_another_task_has_closed_the_memory(client, service, verb):
    service.faults.silent = True
    service.states = [pb.Task(task="t0", state=pb.LEARNING)]
    waiting = asyncio.create_task(
        {"sample": client.sample, "result": client.task("t0").result, "sleep": client.sleep}[verb]()
    )
    await asyncio.sleep(0.3)
    await client.close()
    with pytest.raises(MemoryClosed, match="the memory was closed while"):
        await waiting


async def test_a_reader_that_pauses_has_the_stream_run_ahead_by_a_few_batches_only(client, service):
    given_rows = []
    service.cut = lambda row: given_rows.append(row) or 2048
    service.shape = (3, 16, 16)
    async with client.stream(batch_size=2048, seed=1) as stream:
        await anext(stream)
        await asyncio.sleep(0.5)
        paused = len(given_rows)
        await asyncio.sleep(0.3)
        assert len(given_rows) == paused <= 8


async def test_many_streams_share_an_event_loop(client, rows_of):
    streams = [client.stream(batch_size=16, seed=seed) for seed in range(20)]
    for seed, batches in enumerate(await asyncio.gather(*(first(stream, 5) for stream in streams))):
        np.testing.assert_array_equal(x_of(batches), rows_of(range(80), SHAPE, 3, seed)[0])


# Cancelling


@pytest.mark.parametrize("verb", ["sample", "anext", "timeout"])
async def test_cancelling_whoever_awaits_samples_cancels_the_call(client, service, verb):
    service.faults.silent = True
    stream = client.stream(batch_size=4)
    waiting = asyncio.create_task(client.sample() if verb == "sample" else anext(stream))
    await asyncio.sleep(0.2)
    assert not service.cancelled.is_set()
    if verb == "timeout":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting, 0.01)
    else:
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    assert await asyncio.to_thread(service.cancelled.wait, 5)
    if verb != "sample":
        assert [batch async for batch in stream] == []


async def test_cancelling_an_upload_cancels_the_call(client, service):
    service.lessons.clear()
    waiting = asyncio.create_task(client.learn_task(never_ending(), progress=False))
    while service.requests.count("LearnTask") < 2:
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert await asyncio.to_thread(service.cancelled.wait, 5)
    assert service.lessons == {}


async def test_an_upload_may_be_cancelled_at_any_moment_of_its_begin(client):
    for thousandths in range(20):
        waiting = asyncio.create_task(client.learn_task(never_ending(), progress=False))
        await asyncio.sleep(thousandths / 1000)
        waiting.cancel()
        await asyncio.wait([waiting], timeout=10)
        assert waiting.cancelled(), f"{thousandths} ms after its begin"


async def never_ending():
    yield np.zeros((1024, 1, 32, 32), np.uint8), np.zeros(1024, int)
    await asyncio.Event().wait()


async def test_cancelling_a_wait_leaves_the_task_and_says_how_to_go_on(client, service):
    service.faults.silent = True
    service.states = [pb.Task(memory="digits", task="t0", state=pb.LEARNING)]
    waiting = asyncio.create_task(client.learn_task((IMAGES, [0, 1, 2] * 2), progress=False))
    await asyncio.sleep(0.3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting

    assert "memory.task('t0').watch()" in caught.value.__notes__[0]
    assert service.lessons["t0"].task.state == pb.LEARNED


# Learning


async def pairs():
    for at in range(0, 6, 2):
        await asyncio.sleep(0)
        yield IMAGES[at : at + 2], [3, 1]


class Batches:
    """An asynchronous stream that can be read again."""

    def __aiter__(self):
        return pairs()


@pytest.mark.parametrize(
    "stream",
    [
        lambda: (IMAGES, [3, 1] * 3),
        lambda: [(IMAGES[at : at + 2], [3, 1]) for at in range(0, 6, 2)],
        lambda: ((IMAGES[at : at + 2], [3, 1]) for at in range(0, 6, 2)),
        pairs,
        Batches,
    ],
)
async def test_streams_of_every_kind_are_learned(client, service, stream):
    task = await client.learn_task(stream(), task="t1", steps=7, progress=False)

    assert (task.state, task.classes, task.count, task.quality) == (TaskState.LEARNED, (3, 1), 6, 0.96)
    arrived = service.lessons["t1"]
    assert (arrived.x, arrived.labels, arrived.header.steps) == (IMAGES.tobytes(), [3, 1] * 3, 7)


async def test_the_event_loop_goes_on_while_a_stream_that_is_not_asynchronous_is_read(client, service):
    def slow():
        for _ in range(3):
            time.sleep(0.1)
            yield IMAGES, [0] * 6

    turns, reading = 0, asyncio.create_task(client.learn_task(slow(), progress=False))
    while not reading.done():
        turns += 1
        await asyncio.sleep(0.01)
    assert turns > 15
    assert (await reading).count == 18


async def test_what_the_stream_raises_arrives_and_nothing_is_learned(client, service):
    service.lessons.clear()

    async def broken():
        yield np.zeros((2048, 1, 32, 32), np.uint8), np.zeros(2048, int)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await client.learn_task(broken(), progress=False)
    with pytest.raises(InvalidInput, match="no rows"):
        await client.learn_task([], progress=False)
    assert service.lessons == {}


async def test_no_data_is_sent_before_the_server_has_accepted_what_it_is(client, service):
    service.faults.slow = 0.5
    await client.learn_task((IMAGES, [0, 1, 2] * 2), task="t1", progress=False)
    assert service.early is False
    assert service.lessons["t1"].x == IMAGES.tobytes()


@pytest.mark.parametrize("endless", [True, False])
async def test_a_refusal_names_the_field_even_while_data_is_sent(client, service, endless):
    service.faults.refuse = "an image has 1 or 3 channels, not 4"

    async def large():
        while endless:
            yield np.zeros((512, 1, 32, 32), np.uint8), np.zeros(512, int)
        yield IMAGES, [0] * 6

    with pytest.raises(TaskRejected, match="1 or 3 channels") as caught:
        await client.learn_task(large(), progress=False)
    assert [violation.field for violation in caught.value.field_violations] == ["header.spec"]


async def test_a_busy_server_is_asked_again_if_the_stream_can_be_read_again(client, service):
    service.faults.busy = 3

    assert (await client.learn_task(Batches(), task="t1", progress=False)).count == 6
    service.faults.busy = 1
    with pytest.raises(ServerBusy, match=r"Try again in 0\.05 s"):
        await client.learn_task(pairs(), task="t2", progress=False)


@pytest.mark.parametrize("why", ["TASK_INTERRUPTED", "WORKER_DIED", "WORKER_SILENT"])
async def test_a_task_whose_server_or_worker_went_is_sent_again_if_the_stream_can_be_read_again(client, service, why):
    service.faults.why, service.faults.interrupted = why, 2

    assert (await client.learn_task(Batches(), task="t1", progress=False)).count == 6
    service.faults.interrupted = 1
    with pytest.raises(TaskInterrupted):
        await client.learn_task(pairs(), task="t2", progress=False)


async def test_without_a_server_the_stream_is_not_touched(client, server):
    await asyncio.to_thread(server.stop)
    client._connection.reconnect = 0.3
    touched = []

    with pytest.raises(ServerUnavailable, match="memory-server serve"):
        await client.learn_task((touched.append(i) for i in range(3)), progress=False)
    assert touched == []


async def test_a_handle_follows_a_task_and_takes_up_a_watch_that_breaks(client, service):
    handle = await client.learn_task((IMAGES, [0] * 6), wait=False, progress=False)
    service.states = [pb.Task(memory="digits", task="t0", state=pb.QUEUED, waiting_for="queued behind t9")]
    service.faults.watch_lost = 1

    assert [task.state async for task in handle.watch()] == ["QUEUED", "QUEUED", "LEARNED"]
    assert await handle.state() is TaskState.LEARNED
    assert (await handle.result(timeout=5)).revision == 1
    with pytest.raises(TaskFinished):
        await handle.cancel()


async def test_a_wait_ends_as_the_task_does_or_in_time(client, service):
    service.states, service.faults.silent = [service.lessons["t0"].task], True
    service.lessons["t0"].task.state = pb.LEARNING
    with pytest.raises(DeadlineExceeded, match="goes on"):
        await client.task("t0").result(timeout=0.2)
    client._connection.silence = 0.2
    with pytest.raises(ServerUnavailable, match="silent"):
        await client.task("t0").result()
    service.lessons["t0"].task.state, service.lessons["t0"].task.error_reason = pb.FAILED, "QUALITY_TOO_LOW"
    with pytest.raises(QualityTooLow):
        await client.task("t0").result()


async def test_progress_is_one_line_rewritten(client):
    shown = io.StringIO()
    await client.learn_task((np.zeros((3000, 1, 28, 28), np.uint8), np.zeros(3000, int)), progress=TextProgress(shown))

    lines = shown.getvalue().split("\r")
    assert "uploading: 3000 examples, 2.4 MB" in [line.rstrip() for line in lines]
    assert lines[-1].startswith("t0: LEARNED in 1.5 s, quality 0.960") and lines[-1].endswith("\n")


# Event loops and patience


def test_one_memory_serves_one_event_loop_after_the_other(taught, server, rows_of):
    memory = aio.Memory(server.target, "digits")

    async def take():
        return await first(memory.stream(batch_size=8, seed=1), 2)

    for _ in range(3):
        np.testing.assert_array_equal(x_of(asyncio.run(take())), rows_of(range(16), SHAPE, 3, 1)[0])
    assert len(memory._connection._own) == 1
    asyncio.run(pickle.loads(pickle.dumps(memory)).classes())


async def test_a_stream_that_is_sent_to_another_process_says_what_is_sent_instead(client):
    async with client.stream() as stream:
        with pytest.raises(TypeError, match=r"ReplayDataset, or pickle the Memory.*start_at="):
            pickle.dumps(stream)


async def test_calls_are_repeated_while_the_server_is_away_or_its_solver_is(client, service):
    service.faults.lost_unary, service.faults.retraining = 2, 2

    assert await client.classes() == (0, 1, 2)
    assert (await client.classify(IMAGES[:1]))[0].tolist() == [0]


async def test_a_server_that_is_not_there_is_given_up(server):
    server.stop()
    async with aio.Memory(server.target, "digits", reconnect=0.3) as memory:
        with pytest.raises(ServerUnavailable, match="serve"):
            await memory.describe()


def test_both_read_the_same_stream(taught, server):
    want = list(islice(taught.stream(batch_size=8, seed=2, start_at=1, stride=2), 3))

    async def take():
        async with aio.Memory(server.target, "digits") as memory:
            return await first(memory.stream(batch_size=8, seed=2, start_at=1, stride=2), 3)

    np.testing.assert_array_equal(x_of(asyncio.run(take())), x_of(want))


async def test_a_status_that_grpc_has_overwritten_is_the_one_that_the_server_sent(client, service):
    service.faults.refuse = "an image has 1 or 3 channels, not 4"
    call = client._connection.stub.LearnTask()
    ending = Ending(call)
    await call.write(pb.LearnTaskRequest(header=pb.LearnTaskHeader(memory="m")))
    await call.done_writing()
    while not call.done():
        await asyncio.sleep(0.01)
    call._cython_call.set_internal_error("a message was on its way")
    with pytest.raises(grpc.RpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert ending.truly(caught.value).code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(InvalidInput, match="1 or 3 channels"):
        await client._connection.step(call, call, ending)
