"""The demo's own parts; the whole of it is `make demo`, which exits non-zero if a claim does not hold."""

import gzip
import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from memory_server.demo.classifier import accuracy, endless, train
from memory_server.demo.datasets import load, tasks_of
from memory_server.demo.run import Outcome

HELD = {"with_memory": 0.97, "without_replay": 0.2, "joint": 0.99, "forbidden_imports": []}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"with_memory": 0.93}, "below 95% of joint"),
        ({"without_replay": 0.5}, "below 3 times"),
        ({"forbidden_imports": ["dgm_core"]}, "imported"),
    ],
)
def test_the_demo_fails_exactly_when_a_claim_does_not_hold(change, says):
    failures = Outcome(rows=[HELD | change]).failures()
    assert failures == [] if says is None else says in failures[0]


def test_the_demo_fails_when_a_sample_has_changed():
    assert "t0 after t1" in Outcome(rows=[HELD], changed=["task t0 after t1"]).failures()[0]


def test_a_digit_is_either_learned_from_or_tested_on_whatever_the_seed():
    first, again, other = (load("digits", None, seed) for seed in (0, 0, 1))
    assert len(first.train.x) + len(first.test.x) == 1797
    assert np.array_equal(first.test.x, again.test.x) and not np.array_equal(first.test.x, other.test.x)
    assert set(first.train.y) == set(first.test.y) == set(range(10))


def idx(folder, name, values):
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    (folder / f"{name}.gz").write_bytes(gzip.compress(header + values.tobytes()))


def test_mnist_is_read_from_its_four_files(tmp_path):
    x, y = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2), np.array([5, 0, 5], np.uint8)
    for prefix in ("train", "t10k"):
        idx(tmp_path, f"{prefix}-images-idx3-ubyte", x)
        idx(tmp_path, f"{prefix}-labels-idx1-ubyte", y)
    data = load("mnist", tmp_path, 0)
    assert data.train.x.shape == (3, 1, 2, 2) and data.test.of((5,)).y.tolist() == [5, 5]


@pytest.mark.parametrize(("name", "says"), [("mnist", "four MNIST files"), ("faces", "digits, mnist")])
def test_data_that_is_not_there_is_asked_for_by_name(name, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        load(name, tmp_path, 0)
    with pytest.raises(ValueError, match=says.replace("four MNIST", "--data DIR with the four MNIST")):
        load(name, None, 0)


def test_tasks_take_the_classes_in_order_two_at_a_time():
    assert tasks_of() == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]


def test_the_learners_classifier_learns_from_any_stream_of_batches():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (rng.integers(0, 100, (60, 1, 8, 8)) + 120 * y[:, None, None, None]).astype(np.uint8)
    network = train(endless(x, y, 32, seed=0), classes=2, steps=30, seed=0)
    assert accuracy(network, x, y) > 0.95


def test_a_learner_process_never_imports_the_mathematics_of_the_memory():
    command = [sys.executable, "-m", "memory_server.demo.learner", "--joint", "--task", "1", "--dataset", "digits"]
    done = subprocess.run([*command, "--steps", "60"], capture_output=True, text=True, check=True, timeout=120)
    result = json.loads(done.stdout)
    assert result["forbidden_imports"] == []
    assert result["joint"] > 0.5
