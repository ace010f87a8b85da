"""Replay for PyTorch, in one process: what is yielded, how workers share it, how it is mixed with real data."""

import gc
import pickle
import threading
import time
from itertools import chain, count, islice, zip_longest
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_api.v1 import memory_pb2 as pb
from memory_client import EmptyMemory, InvalidInput, UnknownClass, UnknownMemory
from memory_client.sampling import Course
from memory_client.torch import ReplayDataset, mixed
from memory_client.torch.dataset import share
from torch.utils.data import DataLoader, TensorDataset

IMAGES = np.zeros((6, 1, 2, 2), np.uint8)


def no_thread_reads() -> bool:
    deadline = time.monotonic() + 5
    while any(thread.name == "memory-stream" for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def named(memory):
    """A memory of strings."""
    memory.learn_task((IMAGES, ["emu", "a cat", "dog"] * 2), progress=False)
    return memory


# The data set


def test_it_yields_the_batches_of_the_stream_as_tensors(taught):
    dataset = ReplayDataset(taught, batch_size=7, seed=5, n=40, start_at=1)

    batches = list(DataLoader(dataset, batch_size=None))

    assert len(dataset) == len(batches) == 5
    for (x, y), (want_x, want_y) in zip(batches, taught.stream(batch_size=7, seed=5, n=40, start_at=1), strict=True):
        assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
        np.testing.assert_array_equal(x, want_x)
        np.testing.assert_array_equal(y, want_y)
    assert (dataset.classes, dataset.shape) == ((0, 1, 2), (1, 2, 2))
    assert no_thread_reads()


def test_ranks_share_the_batches_of_one_stream(taught):
    asked = {"batch_size": 7, "seed": 5, "n": 40}
    ranks = [ReplayDataset(taught, start_at=rank, stride=4, **asked) for rank in range(4)]

    batches = [list(rank) for rank in ranks]

    assert [len(rank) for rank in ranks] == [len(given) for given in batches] == [2, 2, 1, 1]
    in_turn = [batch for turn in zip_longest(*batches) for batch in turn if batch is not None]
    for (x, y), (want_x, want_y) in zip(in_turn, taught.stream(**asked), strict=True):
        np.testing.assert_array_equal(x, want_x)
        np.testing.assert_array_equal(y, want_y)
    with pytest.raises(InvalidInput, match="stride"):
        ReplayDataset(taught, stride=0)


def test_every_pass_of_a_seeded_data_set_is_the_same(taught):
    dataset = ReplayDataset(taught, batch_size=8, seed=5)

    first, second = ([x.tolist() for x, _ in islice(dataset, 4)] for _ in range(2))

    assert first == second


@pytest.mark.parametrize("dtype", ["float32", np.float32, torch.float32])
def test_floats_come_as_the_server_makes_them(taught, dtype):
    ((x, _),) = ReplayDataset(taught, n=5, batch_size=5, seed=1, dtype=dtype)

    np.testing.assert_array_equal(x, taught.sample(n=5, seed=1, dtype="float32")[0])


def test_labels_that_are_strings_come_as_indices(named):
    dataset = ReplayDataset(named, n=9, batch_size=4, seed=1)
    y = torch.cat([y for _, y in dataset])

    assert dataset.classes == ("emu", "a cat", "dog")
    assert [dataset.classes[index] for index in y] == named.sample(n=9, seed=1)[1].tolist()
    chosen = ReplayDataset(named, ["dog", "emu"], n=4, batch_size=4)
    assert torch.cat([y for _, y in chosen]).tolist() == [0, 1, 0, 1]


def test_what_is_learned_later_is_not_in_it(taught, service):
    following, seeded = ReplayDataset(taught, batch_size=8), ReplayDataset(taught, batch_size=8, seed=1)
    taught.learn_task((IMAGES, [7, 8] * 3), task="t1", progress=False)
    service.revision = 2

    for dataset in (following, seeded):
        assert dataset.classes == (0, 1, 2)
        next(iter(dataset))
    asked = [request for request in service.requests if isinstance(request, pb.SampleRequest)]
    assert [label.integer for label in asked[0].classes] == [0, 1, 2]
    assert (asked[0].revision, asked[1].revision) == (0, 1)
    assert ReplayDataset(taught).classes == (0, 1, 2, 7, 8)
    assert ReplayDataset(taught, tasks="t1").classes == (7, 8)


def test_a_data_set_travels_to_another_process(taught):
    dataset = ReplayDataset(taught, batch_size=8, seed=1)
    copy = pickle.loads(pickle.dumps(dataset))

    np.testing.assert_array_equal(next(iter(copy))[0], next(iter(dataset))[0])


def test_an_endless_data_set_has_no_length(taught):
    with pytest.raises(TypeError, match="without n"):
        len(ReplayDataset(taught))


def test_what_cannot_be_had_is_refused_when_it_is_made(memory, service):
    with pytest.raises(UnknownMemory):
        ReplayDataset(memory)
    memory.learn_task((IMAGES, [0] * 6), progress=False)
    with pytest.raises(InvalidInput, match="batch_size"):
        ReplayDataset(memory, batch_size=0)
    with pytest.raises(InvalidInput, match="dtype"):
        ReplayDataset(memory, dtype=torch.int32)
    with pytest.raises(UnknownClass):
        next(iter(ReplayDataset(memory, [9])))
    del service.lessons["t0"].task.classes[:]
    with pytest.raises(EmptyMemory, match="teach it a task first"):
        ReplayDataset(memory)


def test_leaving_a_pass_ends_its_thread(taught):
    for _ in ReplayDataset(taught, batch_size=4):
        break
    gc.collect()

    assert no_thread_reads()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_pinning_without_an_accelerator_is_refused(taught):
    with pytest.raises(InvalidInput, match="accelerator"):
        ReplayDataset(taught, pin_memory=True)


def test_rows_are_written_into_the_tensors_that_are_pinned_and_those_are_given(taught, monkeypatch):
    made = []

    def empty(*shape, pin_memory, **options):
        assert pin_memory
        made.append(plain(*shape, **options))
        return made[-1]

    plain = torch.empty
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", empty)
    batches = list(ReplayDataset(taught, batch_size=8, n=20, seed=1, pin_memory=True))

    assert all(x is pinned for (x, _), pinned in zip(batches, made, strict=True))
    np.testing.assert_array_equal(torch.cat([x for x, _ in batches]), taught.sample(n=20, seed=1)[0])


def test_a_worker_pins_nothing_and_says_who_shall(taught, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr("memory_client.torch.dataset.get_worker_info", lambda: SimpleNamespace(id=0, num_workers=1))

    with pytest.raises(InvalidInput, match="to the DataLoader instead"):
        next(iter(ReplayDataset(taught, pin_memory=True)))


@pytest.mark.gpu
def test_pinned_batches_are_page_locked_and_the_same(taught):
    asked = {"batch_size": 64, "seed": 1, "n": 6400}
    for (x, y), (want_x, want_y) in zip(
        ReplayDataset(taught, pin_memory=True, **asked), taught.stream(**asked), strict=True
    ):
        assert x.is_pinned()
        np.testing.assert_array_equal(x.to("cuda", non_blocking=True).cpu(), want_x)
        np.testing.assert_array_equal(y, want_y)


# How workers share


def batches_of(request):
    """Positions of the rows of each batch that a request gives."""
    course = Course.of(request)
    rows = count() if course.rows is None else range(course.rows)
    for start in range(0, 10**9 if course.rows is None else course.rows, course.batch_size):
        found = [course.position(row) for row in range(start, start + course.batch_size) if row in rows]
        yield found


def requests(batch_size, n, start_at, stride, seed, workers):
    request = pb.SampleRequest(batch_size=batch_size, start_at=start_at, stride=stride, seed=seed, n=n)
    return request, [share(request, worker, workers) for worker in range(workers)]


any_course = given(
    batch_size=st.integers(1, 9),
    n=st.integers(1, 200),
    start_at=st.integers(0, 30),
    stride=st.integers(1, 5),
    workers=st.integers(1, 7),
)


@any_course
def test_workers_with_a_seed_give_the_batches_of_the_stream_in_turn(batch_size, n, start_at, stride, workers):
    whole, shares = requests(batch_size, n, start_at, stride, 1, workers)

    in_turn = chain.from_iterable(zip_longest(*map(batches_of, shares)))

    assert [batch for batch in in_turn if batch is not None] == list(batches_of(whole))
    endless, shares = requests(batch_size, None, start_at, stride, 1, workers)
    in_turn = chain.from_iterable(zip(*map(batches_of, shares), strict=True))
    assert list(islice(in_turn, 20)) == list(islice(batches_of(endless), 20))


@any_course
def test_workers_without_a_seed_have_n_rows_between_them(batch_size, n, start_at, stride, workers):
    whole, shares = requests(batch_size, n, start_at, stride, None, workers)

    found = sorted(chain.from_iterable(chain.from_iterable(map(batches_of, shares))))

    assert found == list(chain.from_iterable(batches_of(whole)))
    assert sum(Course.of(each).batches for each in shares) == Course.of(whole).batches
    assert all(each.stride == stride for each in shares), "a run"


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seed", [None, 1])
def test_the_workers_of_all_ranks_have_every_batch_once(workers, seed):
    whole, ranks = pb.SampleRequest(batch_size=4, seed=seed, n=90), 3
    shares = [each for rank in range(ranks) for each in requests(4, 90, rank, ranks, seed, workers)[1]]

    found = sorted(chain.from_iterable(map(batches_of, shares)))

    assert found == list(batches_of(whole))


def test_workers_of_an_endless_stream_without_a_seed_begin_at_different_batches_of_it():
    _, shares = requests(4, None, 1, 3, None, 3)

    assert [(each.start_at, each.stride) for each in shares] == [(1, 3), (4, 3), (7, 3)]


# Mixing


@pytest.fixture
def loader():
    """Eleven rows of class 9 in batches of 4, 4 and 3."""
    return DataLoader(TensorDataset(torch.full((11, 1, 2, 2), 255, dtype=torch.uint8), torch.full((11,), 9)), 4)


def rows_of(batches):
    return [(x.tolist(), y.tolist()) for x, y in batches]


@pytest.mark.parametrize(
    ("replay", "sizes"), [(0.5, [8, 8, 6]), (0.75, [16, 16, 12]), (0.1, [4, 5, 3]), (0.2, [5, 5, 4])]
)
def test_a_batch_has_all_real_rows_and_its_share_of_synthetic_ones(taught, loader, replay, sizes):
    mix = mixed(loader, taught, replay)
    batches = list(mix)

    assert len(mix) == 3
    assert [len(y) for _, y in batches] == [len(x) for x, _ in batches] == sizes
    assert [int((y == 9).sum()) for _, y in batches] == [4, 4, 3]
    assert all((x[y == 9] == 255).all() for x, y in batches)
    synthetic = torch.cat([y[y != 9] for _, y in batches]).bincount(minlength=3)
    assert synthetic.max() - synthetic.min() <= 1


def test_real_and_synthetic_rows_are_shuffled(taught, loader):
    first, second, _ = ((y == 9).tolist() for _, y in mixed(loader, taught, seed=1))

    assert first != second
    assert sorted(first) == sorted(second)


def test_with_a_seed_the_passes_are_a_function_of_it_and_differ(taught, loader):
    one, other = (mixed(loader, taught, seed=3) for _ in range(2))
    passes = [rows_of(one) for _ in range(2)]

    assert passes == [rows_of(other) for _ in range(2)]
    assert passes[0] != passes[1]
    assert rows_of(mixed(loader, taught, seed=4)) != passes[0]


def test_floats_and_label_types_are_those_of_the_loader(taught):
    x, y = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(4, 1, 2, 2), torch.full((4,), 9, dtype=torch.int32)
    ((mix, labels),) = mixed([(x, y)], taught, seed=1)

    assert (mix.dtype, labels.dtype) == (torch.float64, torch.int32)
    synthetic = mix[labels != 9]
    assert synthetic.abs().max() <= 1
    assert (synthetic * 127.5 + 127.5 - (synthetic * 127.5 + 127.5).round()).abs().max() < 1e-4


def test_what_is_learned_between_passes_is_not_replayed(taught, loader):
    mix = mixed(loader, taught)
    taught.learn_task((IMAGES, [7, 8] * 3), task="t1", progress=False)

    assert {label for _, y in mix for label in y.tolist()} == {0, 1, 2, 9}


def test_leaving_a_mixed_pass_ends_its_thread(taught, loader):
    for _ in mixed(loader, taught):
        break
    gc.collect()

    assert no_thread_reads()


@pytest.mark.parametrize("replay", [0, 1, -0.5, 1.5])
def test_a_share_that_is_none_is_refused(taught, loader, replay):
    with pytest.raises(InvalidInput, match="replay is"):
        mixed(loader, taught, replay)


@pytest.mark.parametrize(
    ("batch", "advice"),
    [
        (torch.zeros(3), "pair"),
        ((torch.zeros(3, 1, 2, 2), [1, 2, 3]), "pair"),
        ((torch.zeros(3, 1, 2, 2, dtype=torch.int64), torch.zeros(3)), "dtype torch.int64"),
        ((torch.zeros(3, 1, 2, 2), torch.zeros(3, 10)), "one label a row"),
        ((torch.zeros(3, 1, 4, 4), torch.zeros(3)), "resize"),
        ((torch.full((3, 1, 2, 2), 2.5), torch.zeros(3)), r"from 2\.5 to 2\.5.*127\.5"),
    ],
)
def test_a_loader_that_does_not_fit_is_told_how_to(taught, batch, advice):
    with pytest.raises(InvalidInput, match=advice):
        list(mixed([batch], taught))


def test_images_between_0_and_1_are_taken_for_a_mistake(taught):
    with pytest.warns(UserWarning, match=r"2 \* x - 1"):
        list(mixed([(torch.rand(4, 1, 2, 2), torch.zeros(4))], taught))


def test_a_loader_without_a_length_has_none_when_mixed(taught):
    with pytest.raises(TypeError, match="no length"):
        len(mixed(iter([]), taught))
