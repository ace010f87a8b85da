"""Whatever a user calls a stream: what is taken, what is refused, and with which advice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from memory_client import InvalidInput
from memory_client._batches import CHUNK_BYTES, Pieces, examples, is_repeatable, labels, pairs

X = np.zeros((4, 1, 8, 8), np.uint8)
Y = np.array([0, 1, 0, 1])


def pieces(stream):
    """All that is sent of a stream."""
    regrouped = Pieces()
    for pair in pairs(stream):
        yield from regrouped.add(pair)
    yield from regrouped.rest()


async def arriving():
    yield X, Y


class Tensor:
    """What a tensor of any framework looks like from outside: no array until it is detached and on the CPU."""

    def __init__(self, array, on_cpu=False):
        self._array, self._on_cpu, self.shape, self.dtype = array, on_cpu, array.shape, array.dtype
        self.ndim = array.ndim

    def detach(self):
        return self

    def cpu(self):
        return Tensor(self._array, on_cpu=True)

    def is_floating_point(self):
        return self._array.dtype.kind == "f"

    def float(self):
        return Tensor(self._array.astype(np.float32), self._on_cpu)

    def __iter__(self):
        return iter(self._array)

    def __array__(self, dtype=None, copy=None):
        assert self._on_cpu
        return self._array


@pytest.mark.parametrize(
    "stream",
    [
        (X, Y),
        [X, Y],
        (X, Y.tolist()),
        (X, Y.astype(np.uint8)),
        (X, list(Y)),
        (Tensor(X), Tensor(Y)),
        [(X[:2], Y[:2]), (X[2:], Y[2:])],
        [[X[:2], Y[:2]], [X[2:], Y[2:]]],
        ((X[i : i + 1], Y[i : i + 1]) for i in range(4)),
        [(X[:0], Y[:0]), (X, Y)],
    ],
)
def test_pairs_lists_generators_and_tensors_are_streams(stream):
    found = list(pieces(stream))

    np.testing.assert_array_equal(np.concatenate([x for x, _ in found]), X)
    np.testing.assert_array_equal(np.concatenate([y for _, y in found]), Y)


def test_a_torch_loader_is_a_stream():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.rand(10, 1, 8, 8, dtype=torch.float64) - 0.5, torch.arange(10))

    found = list(pieces(torch.utils.data.DataLoader(data, batch_size=4)))

    assert [(len(x), x.dtype) for x, _ in found] == [(10, np.float32)]
    assert examples(torch.zeros(2, 5, dtype=torch.bfloat16, requires_grad=True)).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", np.longdouble])
def test_any_float_becomes_float32(dtype):
    assert examples(np.ones((2, 3), dtype)).dtype == np.dtype("<f4")


@pytest.mark.parametrize(
    ("stream", "advice"),
    [
        ((X.astype(int), Y), "pass uint8 images"),
        ((X[:, 0], Y), r"x\[:, None\]"),
        ((X[:, 0, 0, 0], Y), r"\(n, C, H, W\)"),
        ((X, Y[:3]), "4 rows and y 3"),
        ((X, np.eye(4)), r"y\.argmax\(1\)"),
        ((X, Y.astype(float)), "convert"),
        ((X, [True] * 4), "classes are integers or strings"),
        ((X, [b"a"] * 4), r"\.decode\(\)"),
        ((X, [0, "a", 1, "b"]), "mixes"),
        ((X, np.array([2**63] * 4, np.uint64)), "at most"),
        ([(X[0], 3)], "DataLoader"),
        ([(X, Y), (X.astype("f4"), Y)], "batch 1 has"),
        ([(X, Y), (X, ["a"] * 4)], "batch 1 has"),
        ([X], "pair"),
        (X, "pair"),
        ({"x": X, "y": Y}, "pair"),
        (3, "int"),
        (np.array([object()] * 2), "ndarray"),
        ((np.array([[None]]), [0]), "object"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_fix(stream, advice):
    with pytest.raises(InvalidInput, match=advice):
        list(pieces(stream))


def test_labels_held_as_objects_are_taken_one_by_one():
    assert labels(np.array(["a", "bcd"], object)).tolist() == ["a", "bcd"]
    assert labels(np.array([2**40, 1], object)).dtype == np.int64


@given(sizes=st.lists(st.integers(0, 700), max_size=12), features=st.sampled_from([1, 300, 2000, 200_000]))
def test_pieces_hold_all_rows_in_order_and_fill_their_chunks(sizes, features):
    sizes = sizes if features < 200_000 else [size % 3 for size in sizes]
    stream = [(np.full((size, features), i, np.float32), np.full(size, i)) for i, size in enumerate(sizes)]

    found = list(pieces(stream))

    rows = max(1, CHUNK_BYTES // (4 * features))
    assert [len(x) for x, _ in found[:-1]] == [rows] * (len(found) - 1)
    assert all(0 < len(x) <= rows for x, _ in found)
    want = [i for i, size in enumerate(sizes) for _ in range(size)]
    assert [label for _, y in found for label in y.tolist()] == want
    assert [value for x, _ in found for value in x[:, -1].tolist()] == want


@pytest.mark.parametrize("size", [100, 400, 700])  # rows of a batch; 512 fill a message
def test_a_stream_may_fill_the_same_arrays_for_every_batch(size):
    x, y, regrouped, found = np.empty((size, 1024), np.uint8), np.empty(size, int), Pieces(), []
    for i in range(5):
        x[:], y[:] = i, i
        found += [(piece.copy(), labels.copy()) for piece, labels in regrouped.add((x, y))]
    x[:], y[:] = 9, 9
    found += regrouped.rest()

    want = [i for i in range(5) for _ in range(size)]
    assert [label for _, labels in found for label in labels.tolist()] == want
    assert [value for piece, _ in found for value in piece[:, 0].tolist()] == want


@given(arrays(np.int64, st.integers(0, 50)))
def test_integer_labels_arrive_as_they_are(y):
    np.testing.assert_array_equal(labels(y), y)
    np.testing.assert_array_equal(labels(y.tolist()), y)


def test_only_what_can_be_iterated_again_is_repeatable():
    assert is_repeatable((X, Y))
    assert is_repeatable([(X, Y)])
    assert not is_repeatable(iter([(X, Y)]))
    assert not is_repeatable(arriving())
