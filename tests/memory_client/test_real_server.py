"""The client and the server of this repository together, each in a process of its own."""

from itertools import islice

import numpy as np
import pytest
from memory_client import (
    Memory,
    QualityTooLow,
    TaskExists,
    TaskRejected,
    TaskState,
    UnknownClass,
    UnknownMemory,
    UnknownTask,
)


@pytest.fixture
def target(new_server) -> str:
    return new_server().start().target


class Notes:
    """Listens to learning."""

    def __init__(self):
        self.rows, self.phases, self.closed = 0, [], False

    def sent(self, rows, nbytes):
        self.rows = rows

    def task(self, task):
        self.phases.append(task.progress.phase if task.progress else str(task.state))

    def close(self):
        self.closed = True


def test_the_whole_life_of_a_memory(target, make_images):
    memory = Memory(target, "letters", options={"width": 4, "noise": 8, "seed": 1})
    names = np.array(["a", "bc"])
    x, y = make_images(60)
    notes = Notes()

    learned = memory.learn_task(
        ((x[at : at + 9], names[y[at : at + 9]]) for at in range(0, 60, 9)), steps=10, progress=notes
    )

    assert (learned.state, learned.classes, learned.count, learned.steps) == (TaskState.LEARNED, ("a", "bc"), 60, 10)
    assert notes.rows == 60
    assert notes.closed
    assert {"generator", "solver", "LEARNED"} <= set(notes.phases)
    assert memory.learn_task((x, names[y]), steps=10, progress=False) == learned  # the same data is the same task

    first = memory.sample(n=31, seed=5)
    assert first[0].shape == (31, 1, 8, 8)
    assert sorted(np.unique(first[1], return_counts=True)[1].tolist()) == [15, 16]
    labels, probabilities = memory.classify(x)
    assert set(labels.tolist()) <= {"a", "bc"}
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)

    with memory.stream(batch_size=16, seed=7) as stream:
        whole = list(islice(stream, 6))
    with memory.stream(batch_size=16, seed=7, start_at=4) as stream:
        for got, want in zip(islice(stream, 2), whole[4:], strict=True):
            np.testing.assert_array_equal(got[0], want[0])
            np.testing.assert_array_equal(got[1], want[1])

    refused(memory, make_images)
    np.testing.assert_array_equal(memory.sample(n=31, seed=5)[0], first[0])

    with memory.stream() as stream:
        next(stream)
        memory.delete()
        with pytest.raises(UnknownMemory):
            list(islice(stream, 100_000))


def refused(memory: Memory, make_images) -> None:
    x, _ = make_images(60)
    noise = np.random.default_rng(0)
    with pytest.raises(TaskExists):
        memory.learn_task((x, ["a", "c"] * 30), progress=False)
    with pytest.raises(TaskRejected, match="convert") as caught:
        memory.learn_task((x, [0, 1] * 30), task="t1", progress=False)
    assert caught.value.field_violations[0].field == "chunk.new_classes"
    with pytest.raises(QualityTooLow, match="quality"):
        pure_noise = noise.integers(0, 256, x.shape, np.uint8), noise.choice(["x", "y", "z"], 60)
        memory.learn_task(pure_noise, task="t1", steps=5, min_quality=1.0, progress=False)
    assert memory.task("t1").state is TaskState.FAILED
    assert memory.classes == ("a", "bc")


@pytest.mark.slow
def test_a_task_is_forgotten_and_the_solver_answers_again_without_it(target, make_images):
    memory = Memory(target, "digits", options={"width": 4, "noise": 8, "seed": 1}, reconnect=60)
    for task, classes in (("t0", (0, 1)), ("t1", (2, 3))):
        x, y = make_images(40, classes)
        memory.learn_task((x, np.array(classes)[y]), task, steps=10, erasable=True, progress=False)
    seeded = memory.sample(classes=[2, 3], n=20, seed=3)[0]

    left = memory.forget("t0")

    assert (left.classes, left.tasks, left.complete) == ((2, 3), 1, False)
    labels, probabilities = memory.classify(x)  # waits for the solver
    assert (set(labels.tolist()) <= {2, 3}, probabilities.shape) == (True, (40, 2))
    assert memory.describe().complete
    with pytest.raises(UnknownClass):
        memory.sample(classes=[0, 1], n=20)
    with pytest.raises(UnknownTask):
        memory.forget("t0")
    np.testing.assert_array_equal(memory.sample(classes=[2, 3], n=20, seed=3)[0], seeded)


@pytest.mark.parametrize("kind", ["dgmw", pytest.param("dgma", marks=pytest.mark.slow)])
def test_a_memory_says_how_its_tasks_use_the_generator(target, make_images, kind):
    memory = Memory(target, kind, kind, options={"width": 4, "noise": 8, "seed": 1})
    for task, classes in (("t0", (0, 1)), ("t1", (2, 3))):
        x, y = make_images(40, classes)
        memory.learn_task((x, np.array(classes)[y]), task, steps=10, progress=False)

    known = memory.describe()
    first, second = known.analysis

    assert (first.task, second.task) == ("t0", "t1")
    assert first.gate == {"dgmw": "weight", "dgma": "unit"}[kind]
    for layer in (*first.layers, *second.layers):
        assert min(layer.size, layer.free + 1, layer.reserved + 1, layer.unused + 1) > 0
        assert layer.reserved + layer.reused + layer.unused + layer.free == layer.size
    assert first.usage.reserved > 0
    assert (first.usage.reused, first.usage.unused, first.reuses) == (0, 0, ())
    assert second.usage.reused + second.usage.unused == first.usage.reserved
    assert second.reuses == (("t0",) if second.usage.reused else ())
    assert first.parameters == first.worst_case < second.parameters <= second.worst_case
    assert 0 < first.bytes + second.bytes < known.bytes  # the solver is in the memory, too
    steps = [point.step for point in second.trajectory]
    assert steps == sorted(set(steps))
    hard = second.trajectory[-1]
    assert (hard.slope, hard.step) == (0, second.hardened)
    for layer in second.layers:
        assert hard.occupancy[layer.layer] * layer.size == pytest.approx(layer.reserved + layer.reused, rel=1e-5)
    assert Memory.list(target)[0].analysis == ()
