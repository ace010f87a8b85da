"""Reading samples: exact batches whatever the chunks, exact resumption, no thread left behind."""

import gc
import subprocess
import sys
import threading
import time
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_client import EmptyMemory, InvalidInput, ServerUnavailable, UnknownClass
from memory_client.sampling import Course, Rebatcher, Rows

SHAPE = (1, 2, 2)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "memory-stream"]


def wait_until_no_thread_reads() -> None:
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == []


def test_a_sample_has_the_rows_that_were_asked_for_in_one_pair_of_arrays(taught, rows_of):
    x, y = taught.sample(n=1001, seed=3)

    want_x, want_y = rows_of(range(1001), SHAPE, 3, 3)
    assert (x.dtype, y.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(x, want_x)
    np.testing.assert_array_equal(y, want_y)
    assert x.flags.writeable


def test_a_large_sample_spans_batches(taught, service, rows_of):
    service.cut = lambda row: 4000

    x, y = taught.sample(n=100_000, seed=1)

    np.testing.assert_array_equal(x, rows_of(range(100_000), SHAPE, 3, 1)[0])
    assert np.bincount(y).tolist() == [33334, 33333, 33333]


def test_classes_that_are_strings_come_back_as_unicode(memory):
    memory.learn_task((np.zeros((2, 1, 2, 2), np.uint8), ["cat", "a much longer name"]), progress=False)

    _, y = memory.sample(n=4)

    assert y.tolist() == ["cat", "a much longer name"] * 2
    assert y.dtype.kind == "U"


def test_a_single_class_may_be_named_without_a_list(memory):
    memory.learn_task((np.zeros((2, 1, 2, 2), np.uint8), ["cat", "dog"]), progress=False)

    assert set(memory.sample("dog", n=4)[1].tolist()) == {"dog"}


def test_float_images_are_had_on_request(taught):
    x, _ = taught.sample(n=5, dtype=np.float32)

    assert x.dtype == np.float32
    assert x.min() >= -1 and x.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"classes": []}, "classes"),
        ({"tasks": ()}, "tasks"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"dtype": "int64"}, "dtype"),
        ({"n": 2**70}, "n is"),
        ({"n": 0}, "n is 0: it must be at least 1"),
        ({"n": -5}, "n is -5: it must be at least 1"),
        ({"n": 6.5}, "n is 6.5: pass an integer"),
        ({"classes": [1.5]}, "1.5"),
    ],
)
def test_what_the_wire_cannot_say_is_refused_by_name(taught, arguments, names):
    with pytest.raises(InvalidInput, match=names):
        taught.sample(**arguments)


def test_sampling_what_was_never_learned_says_so(memory, taught):
    with pytest.raises(UnknownClass, match="the classes are") as caught:
        taught.sample([9])

    assert caught.value.reason == "UNKNOWN_CLASS"


def test_sampling_an_empty_memory_says_what_to_do(memory):
    with pytest.raises(EmptyMemory, match="teach it a task first"):
        memory.sample()


def test_a_stream_gives_exact_batches_that_the_caller_owns(taught, rows_of):
    with taught.stream(batch_size=7, seed=5) as stream:
        batches = list(islice(stream, 9))

    assert [len(y) for _, y in batches] == [7] * 9
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), rows_of(range(63), SHAPE, 3, 5)[0])
    assert all(x.flags.writeable and x.base is None for x, _ in batches)


def test_a_finite_stream_ends_with_what_remains(taught):
    assert [len(y) for _, y in taught.stream(batch_size=8, n=20)] == [8, 8, 4]


@pytest.mark.parametrize("stride", [0, -1])
def test_a_stride_that_is_none_is_refused(taught, stride):
    with pytest.raises(InvalidInput, match=f"stride is {stride}"):
        taught.stream(stride=stride)


def test_a_stream_begins_at_the_batch_that_was_asked_for(taught, rows_of):
    x, _ = next(taught.stream(batch_size=8, seed=2, start_at=3))

    np.testing.assert_array_equal(x, rows_of(range(24, 32), SHAPE, 3, 2)[0])


@given(
    batch_size=st.integers(1, 9),
    n=st.integers(1, 80),
    first=st.integers(0, 12),
    stride=st.integers(1, 6),
)
def test_a_course_counts_the_rows_of_its_batches(batch_size, n, first, stride):
    course = Course(batch_size, n, first, stride)
    wanted = [row for row in range(n) if row // batch_size in range(first, n, stride)]

    assert [course.position(row) for row in range(len(wanted))] == wanted
    assert course.rows == len(wanted)
    assert course.batches == len({row // batch_size for row in wanted})
    assert Course(batch_size, None, first, stride).rows is Course(batch_size, None).batches is None


@given(
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    batch_size=st.integers(1, 50),
    n=st.none() | st.integers(1, 400),
)
def test_any_cutting_into_chunks_gives_the_same_batches(cuts, batch_size, n):
    total = min(sum(cuts), n or sum(cuts))
    x = np.arange(total, dtype=np.float32).reshape(-1, 1)
    rebatcher, batches, row = Rebatcher(batch_size, n), [], 0

    for cut in cuts:
        batches += rebatcher.add(Rows(row, x[row : row + cut], np.arange(total)[row : row + cut]))
        row = min(row + cut, total)

    whole = total if total == n else total - total % batch_size
    assert [len(y) for _, y in batches] == [min(batch_size, whole - at) for at in range(0, whole, batch_size)]
    assert [label for _, y in batches for label in y.tolist()] == list(range(whole))
    assert all(np.array_equal(x[:, 0], y) for x, y in batches)


@given(cuts=st.lists(st.integers(1, 9), min_size=4, max_size=12), broken=st.integers(0, 11))
def test_a_batch_that_begins_anew_after_a_break_is_given_once(cuts, broken):
    rebatcher, batches, row, size = Rebatcher(8, None), [], 0, 8
    for i, cut in enumerate(cuts):
        batches += rebatcher.add(Rows(row, np.full((cut, 1), row), np.arange(row, row + cut)))
        row += cut
        if i == broken:
            row = row // size * size

    assert [label for _, y in batches for label in y.tolist()] == list(range(len(batches) * size))


def test_a_seeded_stream_continues_where_it_broke_at_its_revision(taught, service, rows_of):
    service.faults.lost_after_chunks = [5, 0, 3]
    with taught.stream(batch_size=8, seed=4) as stream:
        first = next(stream)
        service.revision = 2
        batches = [first, *islice(stream, 11)]

    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), rows_of(range(96), SHAPE, 3, 4)[0])
    opened = [(request.start_at, request.revision) for request in service.requests[1:]]
    assert opened == [(0, 0), (3, 1), (3, 1), (4, 1)]


@pytest.mark.parametrize(("batch_size", "n"), [(8, None), (7, 100), (3, 100)])
def test_streams_that_share_a_seed_by_a_stride_have_its_batches_between_them(taught, service, batch_size, n):
    asked = {"batch_size": batch_size, "seed": 4, "n": n}
    whole = list(islice(taught.stream(**asked), 12))
    shares = [taught.stream(**asked, start_at=index, stride=3) for index in range(3)]
    service.faults.lost_after_chunks = [5, 0, 3, 2]

    shared = [next(shares[batch % 3]) for batch in range(12)]

    for (x, y), (want_x, want_y) in zip(shared, whole, strict=True):
        np.testing.assert_array_equal(x, want_x)
        np.testing.assert_array_equal(y, want_y)
    if n is not None:
        assert sum(len(y) for share in shares for _, y in share) == n - 12 * batch_size


def test_an_unseeded_stream_is_reopened_at_the_newest_revision(taught, service):
    service.faults.lost_after_chunks = [5]
    with taught.stream(batch_size=8) as stream:
        assert [len(y) for _, y in islice(stream, 8)] == [8] * 8

    assert [(request.start_at, request.revision) for request in service.requests[1:]] == [(0, 0), (3, 0)]


def test_a_stream_that_breaks_after_its_last_row_is_at_its_end(taught, service):
    service.faults.lost_after_chunks = [20]

    assert [len(y) for _, y in taught.stream(batch_size=64, n=100)] == [64, 36]
    assert len(service.requests) == 2  # what was learned, and one call


def test_a_sample_that_breaks_is_completed(taught, service, rows_of):
    service.cut = lambda row: 1500
    service.faults.lost_after_chunks = [5, 1]

    x, _ = taught.sample(n=9000, seed=6)

    np.testing.assert_array_equal(x, rows_of(range(9000), SHAPE, 3, 6)[0])
    assert [request.start_at for request in service.requests[1:]] == [0, 1, 1]


def test_a_stream_survives_the_restart_of_its_server(taught, server, rows_of):
    with taught.stream(batch_size=8, seed=4) as stream:
        batches = [next(stream)]
        server.stop()
        server.start()
        batches += islice(stream, 50)

    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), rows_of(range(408), SHAPE, 3, 4)[0])


def test_a_server_that_stays_away_is_given_up_with_advice(taught, server):
    taught._connection.reconnect = 0.5
    with taught.stream(batch_size=8) as stream:
        next(stream)
        server.stop()
        started = time.monotonic()
        with pytest.raises(ServerUnavailable, match="memory-server serve"):
            for _ in stream:
                pass
        assert 0.4 < time.monotonic() - started < 5
    wait_until_no_thread_reads()


def test_a_silent_server_is_given_up_and_the_thread_ends(taught, service):
    taught._connection.silence = 0.3
    service.faults.silent = True

    with pytest.raises(ServerUnavailable, match=r"silent for 0\.3 s"):
        next(taught.stream(seed=1))
    wait_until_no_thread_reads()


def test_a_reader_may_pause_for_longer_than_a_server_may_be_silent(taught):
    taught._connection.silence = 0.3
    batches = taught.stream(seed=1, batch_size=4)
    for _ in range(3):
        next(batches)
        time.sleep(0.5)
        for _ in range(20):  # more than what was read ahead
            next(batches)
    batches.close()


def test_leaving_the_loop_ends_the_thread_and_the_call(taught, service):
    for _ in taught.stream(batch_size=4):
        break

    wait_until_no_thread_reads()
    assert service.cancelled.wait(5)


def test_dropping_the_iterator_ends_the_thread(taught):
    stream = taught.stream(batch_size=4)
    next(stream)
    assert threads()
    del stream
    gc.collect()

    wait_until_no_thread_reads()


def test_a_stream_that_was_closed_is_at_its_end(taught):
    stream = taught.stream(batch_size=4)
    next(stream)
    stream.close()

    assert list(stream) == []
    wait_until_no_thread_reads()


def test_closing_the_memory_ends_its_streams(taught):
    stream = taught.stream(batch_size=4)
    next(stream)
    taught.close()

    assert list(stream) == []
    wait_until_no_thread_reads()


EXIT = """
import sys
from memory_client import Memory
stream = Memory(sys.argv[1], "digits").stream(batch_size=4)
next(stream)
print("done")
"""


def test_a_program_that_ends_with_an_open_stream_ends_quietly(taught, server):
    done = subprocess.run(
        [sys.executable, "-c", EXIT, server.target], capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_reader_that_pauses_has_the_stream_run_ahead_by_a_few_batches_only(taught, service):
    given_rows = []
    service.cut = lambda row: given_rows.append(row) or 2048
    service.shape = (3, 16, 16)
    with taught.stream(batch_size=2048, seed=1) as stream:
        next(stream)
        time.sleep(0.5)
        paused = len(given_rows)
        time.sleep(0.3)
        assert len(given_rows) == paused <= 8


def test_many_streams_share_a_memory(taught, rows_of):
    streams = [taught.stream(batch_size=16, seed=seed) for seed in range(4)]
    for _ in range(5):
        batches = [next(stream) for stream in streams]
    for seed, (x, _) in enumerate(batches):
        np.testing.assert_array_equal(x, rows_of(range(64, 80), SHAPE, 3, seed)[0])
    for stream in streams:
        stream.close()
    wait_until_no_thread_reads()
