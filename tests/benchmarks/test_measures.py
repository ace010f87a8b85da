import dataclasses

import numpy as np
import pytest
import torch
from harness.measures import ClassMeasures, moved

from dgm_core.evaluation.features import FeatureNetwork
from memory_server.demo.datasets import Part


def pictures(n, label, seed):
    return np.random.default_rng([label, seed]).integers(40 * label, 100 + 40 * label, (n, 1, 8, 8), dtype=np.uint8)


@dataclasses.dataclass
class MemoryOfNoise:
    """Stands for a memory; what it samples is the same until `age` is another."""

    age: int = 0
    calls: int = 0

    def sample(self, classes, n, seed):
        self.calls += 1
        return pictures(n, classes[0], self.age), np.repeat(classes, n)

    def classify(self, x):
        return np.arange(len(x)) % 2, None


@pytest.fixture
def measured():
    torch.manual_seed(0)
    network = FeatureNetwork(1, 10, width=4).eval()
    x = np.concatenate([pictures(30, label, 99) for label in (0, 1)])
    test = Part(x, np.repeat([0, 1], 30))
    return lambda memory: ClassMeasures(memory, lambda: network, test, images=20)


def test_a_class_whose_samples_stay_the_same_has_not_moved(measured):
    memory = MemoryOfNoise()
    then = measured(memory).of(1, known=(0, 1))
    assert moved(then, measured(memory).of(1, known=(0, 1))) == []
    assert then["coverage"] > 0.5 and abs(then["kernel_distance"]) < 0.5


def test_a_class_whose_samples_changed_is_found_by_bytes_and_by_figures(measured):
    memory = MemoryOfNoise()
    then = measured(memory).of(1, known=(0, 1))
    memory.age = 1
    complaints = moved(then, measured(memory).of(1, known=(0, 1)))
    assert complaints[0] == "the bytes of its seeded samples"
    assert any(complaint.startswith("kernel_distance") for complaint in complaints)


def test_measuring_draws_the_samples_of_a_class_once_and_measuring_anew_draws_them_again(measured):
    memory = MemoryOfNoise()
    measures = measured(memory)
    measures.of(0, known=(0, 1))
    measures.of(1, known=(0, 1))
    assert memory.calls == 2
    measured(memory).of(1, known=(0, 1))
    assert memory.calls == 4


def test_what_the_memory_itself_answers_is_counted(measured):
    assert measured(MemoryOfNoise()).answered(1) == 0.5
