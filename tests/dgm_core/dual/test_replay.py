"""Deep generative replay: a memory learns on, reconstructs what its learner sees, and keeps a dictionary."""

from dataclasses import replace
from itertools import count

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.dual.budget import Budget
from dgm_core.dual.learners import LEAST_STEPS, LearnerRecipe, published
from dgm_core.dual.memory import DeepGenerativeMemory, Held, drawn, joined
from dgm_core.dual.replay import News, Replay
from dgm_core.generative.vae import VaeMaker
from dgm_core.manifest import DataSpec
from dgm_core.memory import TaskData
from dgm_core.training.classifying import Pool
from dgm_core.training.clock import Clock
from dgm_core.training.variational import VAE

CPU = torch.device("cpu")
IMAGE = DataSpec((1, 8, 8), "uint8")


def examples(labels, n=24):
    """n examples per label, a bright row each."""
    source = torch.Generator().manual_seed(len(labels))
    x = torch.randint(0, 60, (n * len(labels), 1, 8, 8), generator=source, dtype=torch.uint8)
    y = torch.arange(len(labels)).repeat_interleave(n)
    for row, label in zip(x, y.tolist(), strict=True):
        row[:, labels[label] % 8] = 255
    return TaskData(x, y, tuple(labels))


def replay(capacity=1000, conditional=True, learner=None):
    maker = VaeMaker(IMAGE, replace(VAE, batch=16, lr=4e-3), "auto", 4, 8, 8, conditional)
    learner = learner or LearnerRecipe(lambda examples: 40)
    return Replay(IMAGE, maker, learner, Budget(capacity, 0.1), lambda examples, classes: 80)


def learn(procedure, memory, *news):
    torch.manual_seed(0)
    clock = Clock(lambda progress: None, None, {"generator": 0.9, "learner": 0.1})
    return procedure.learn(memory, news, clock, CPU, source())[0]


def source():
    return torch.Generator().manual_seed(1)


@pytest.fixture(scope="module")
def lived():
    """A memory that learned two tasks, one after the other, and what it was after the first."""
    first = learn(replay(), None, News.of_data("a", examples([0, 1]), source()))
    return first, learn(replay(), first, News.of_data("b", examples([2]), source()))


def test_it_goes_on_knowing_what_it_replays(lived):
    first, memory = lived
    assert first.classes == (0, 1) and memory.classes == (0, 1, 2)
    everything = examples([0, 1, 2], n=8)
    assert (memory.probabilities(everything.x).argmax(dim=1) == everything.y).float().mean() > 0.9
    x = memory.model.expert((2, 0)).generate(torch.randn(20, 8), torch.arange(20) % 2)
    assert (x[::2, 0].mean(dim=2).argmax(dim=1) == 2).all() and (x[1::2, 0].mean(dim=2).argmax(dim=1) == 0).all()


def test_a_blob_holds_all_of_it(lived):
    _, memory = lived
    again = DeepGenerativeMemory.unpack(memory.pack(), replay().maker, IMAGE)
    assert again.pack() == memory.pack() and again.tasks == memory.tasks
    x = examples([0, 1, 2], n=4).x
    torch.testing.assert_close(again.probabilities(x), memory.probabilities(x), atol=1e-3, rtol=0)
    assert again.model.expert((1,)).digest == memory.model.expert((1,)).digest


def test_a_task_that_repeats_another_counts_as_that_one(lived):
    _, memory = lived
    memory = learn(replay(), memory, News.of_data("c", examples([0, 1]), source(), known_as="a"))
    assert memory.times == {"a": 2, "b": 1}
    samples = memory.generated(100, CPU, source())
    assert torch.bincount(samples.y).tolist() == [33, 34, 33] or torch.bincount(samples.y).tolist() == [34, 33, 33]


def test_memories_learn_from_memories_within_the_budget(lived, monkeypatch):
    first, memory = lived
    seen = []
    procedure = replay(capacity=60)
    fit = VaeMaker.fit
    monkeypatch.setattr(VaeMaker, "fit", lambda self, data, *rest: (seen.append(data), fit(self, data, *rest))[1])
    learn(procedure, memory, News.of_memory(first, 5000, CPU, source()))
    assert torch.bincount(seen[0].y, minlength=3).sum() == 60


def test_the_learner_sees_reconstructions(lived):
    _, memory = lived
    noisy = examples([0, 1, 2], n=8)
    hidden = noisy.x.clone()
    hidden[:, :, :, 3:5] = 0
    assert (memory.probabilities(hidden).argmax(dim=1) == noisy.y).float().mean() > 0.8
    expected = memory.learner.probabilities(memory.model.reconstruct(hidden))
    assert torch.equal(memory.probabilities(hidden), expected)


def test_a_revision_is_reconstructed_once_and_labelled_among_the_classes_that_both_know(lived):
    _, memory = lived
    data = examples([5, 2, 0], n=4)
    revision = memory.revision(data)
    assert revision.classes == (2, 0)
    assert torch.equal(revision.x, memory.model.reconstruct(data.x[4:]))
    assert torch.equal(revision.y, memory.learner.probabilities(revision.x)[:, [2, 0]].argmax(dim=1))


def test_without_conditions_the_learner_labels_what_is_generated():
    procedure = replay(conditional=False, learner=published(24, 24))
    memory = learn(procedure, None, News.of_data("a", examples([0, 4], n=400), source()))
    samples = memory.generated(50, CPU, source())
    assert set(samples.y.tolist()) == {0, 1}
    brightest = samples.x[:, 0].float().mean(dim=2).argmax(dim=1)
    assert (torch.tensor([0, 4])[samples.y] == brightest).float().mean() > 0.7
    assert memory.tasks == {"a": Held("a", (0, 4))}


def test_the_published_learner_goes_on_from_the_one_before_which_stays_as_it_is():
    idle = published(24, 24)
    procedure = replay(learner=replace(idle, steps=lambda examples: 1))
    first = learn(procedure, None, News.of_data("a", examples([0, 4]), source()))
    before = {name: tensor.clone() for name, tensor in first.learner.network.state_dict().items()}
    second = learn(procedure, first, News.of_data("b", examples([2]), source()))
    for name, after in second.learner.network.state_dict().items():
        assert torch.equal(first.learner.network.state_dict()[name], before[name])
        assert torch.allclose(after[: len(before[name])], before[name], atol=0.02), "one step was taken"
    assert len(second.learner.network.layers[-1].weight) == 3


def test_the_published_learner_learns_from_few_vectors_even_if_another_scale_was_known():
    vectors = DataSpec((6,), "float32")
    y = torch.arange(200) % 2
    near = torch.randn(200, 6, generator=source())
    near[:, 0] += 4.0 * y
    known = None
    for x in (near, 0.01 * near - 50):
        known = published(24, 24).train(vectors, 2, Pool(x, y), lambda taken: taken, known)
        assert (known(x).argmax(dim=1) == y).float().mean() > 0.9


def test_the_published_learner_has_six_whole_epochs_and_of_few_examples_as_many_as_it_takes():
    learner = published(24, 24)
    assert learner.steps(128 * 200) == 6 * 200 and learner.steps(128 * 200 + 1) == 6 * 201
    assert learner.steps(1) == learner.steps(200) == LEAST_STEPS


def test_a_learner_that_is_late_takes_a_few_steps_all_the_same():
    hours = count(0.0, 3600.0)
    clock = Clock(lambda progress: None, 60.0, {"generator": 0.9, "learner": 0.1}, now=lambda: next(hours))
    at = clock.pace("learner", 1000)
    assert [at(taken) for taken in range(22)] == [*range(0, 1000, 50), 1000, 1000]


def test_what_is_joined_keeps_its_labels_and_no_class_that_has_no_examples():
    both = joined(
        [examples([3, 1], n=2), examples([1, 5], n=1), TaskData(examples([8]).x[:1], torch.tensor([1]), (7, 8))]
    )
    assert both.classes == (3, 1, 5, 8) and both.y.tolist() == [0, 0, 1, 1, 1, 2, 3]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.floats(0, 1))
def test_a_choice_of_examples_is_none_twice_and_loses_no_class_that_there_is_room_for(counts, share):
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    data = TaskData(torch.arange(len(y), dtype=torch.float32)[:, None], y, tuple(range(len(counts))))
    n = max(1, round(share * len(y)))
    some = drawn(data, n, source())
    rows = some.x[:, 0].long()
    assert len(rows.unique()) == n and torch.equal(data.y[rows], some.y)
    assert (n < len(counts)) or len(some.y.unique()) == len(counts)


def test_classes_that_are_not_generated_for_want_of_room_stay_where_they_are(lived):
    _, memory = lived
    grown = learn(replay(capacity=3), memory, News.of_data("c", examples([4, 5]), source()))
    assert grown.classes == (0, 1, 2, 4, 5)
    assert torch.isfinite(grown.model.places.mean).all()
    kept = (grown.model.places.mean[:3] == memory.model.places.mean).all(dim=1)
    assert kept.sum() == 2, "there was room for one"


def test_a_class_that_was_seen_seldom_is_generated_all_the_same(lived):
    first, _ = lived
    often = {str(time): Held("a", (0,)) for time in range(40)}
    memory = DeepGenerativeMemory(first.model, first.learner.network, {**often, "b": Held("b", (1,))}, IMAGE)
    assert torch.bincount(memory.generated(10, CPU, source()).y).tolist() == [9, 1]
