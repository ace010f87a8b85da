"""Kinds that retrain one generator: what it is shown of what it knew, and how that is labelled."""

from dataclasses import replace

import pytest
import torch

from dgm_core.blobs import digest
from dgm_core.errors import Cancelled
from dgm_core.lesson import Lesson
from dgm_core.manifest import DataSpec
from dgm_core.memories import load_memory, new_manifest
from dgm_core.memories.retrained import together
from dgm_core.memory import TaskData, Terms
from dgm_core.networks.classifiers import Classifier
from dgm_core.solvers import ClassifierSolver

SPEC = DataSpec((6,), "float32")
CPU = torch.device("cpu")
NEW = TaskData(torch.randn(9, 6), torch.zeros(9, dtype=torch.int64), ("new",))
pytestmark = pytest.mark.usefixtures("small_batches")


def memory(kind, **options):
    """A memory that has learned 18 examples of "a" and 36 of "b", a tenth of which it held out."""
    manifest = new_manifest(kind, {"width": "2", **options}, SPEC, seed=0)
    y = torch.tensor([0] * 20 + [1] * 40)
    data = TaskData(torch.randn(60, 6) + 4 * y[:, None], y, ("a", "b"))
    learned = load_memory(manifest, {}).learn(data, task="t0", terms=Terms(steps=30), report=lambda p: None, device=CPU)
    return load_memory(manifest.commit(learned), learned.blobs)


def believing(memory, label):
    """The same memory with a solver that takes everything for one class."""
    network = Classifier(SPEC, 2)
    with torch.no_grad():
        network.layers[-1].weight.zero_()
        network.layers[-1].bias.copy_(torch.arange(2) == label)
    solver = ClassifierSolver(SPEC, network, ("a", "b")).pack()
    shared = replace(memory.manifest, shared={"solver": digest(solver)})
    return load_memory(shared, {**memory.blobs, digest(solver): solver})


def shown(memory):
    return memory.shown(NEW, lambda: None)


def test_replay_is_in_proportion_to_what_was_seen_or_as_much_as_was_asked_for():
    assert torch.bincount(shown(memory("mergan", replay="joint")).y).tolist() == [18, 36, 9]
    assert torch.bincount(shown(memory("mergan", replay="joint", replayed="5")).y).tolist() == [5, 5, 9]


def test_alignment_shows_the_new_task_alone():
    assert shown(memory("mergan")) is NEW


@pytest.mark.parametrize(
    ("options", "weight"), [({}, 20.0), ({"recipe": "paper"}, 1.0), ({"recipe": "paper", "alignment": "30.72"}, 30.72)]
)
def test_alignment_has_the_weight_that_was_chosen_or_the_recipes(options, weight):
    assert load_memory(new_manifest("mergan", options, SPEC, seed=0), {}).maker.recipe.alignment == weight


def test_a_memory_replay_gan_labels_replay_by_its_conditions_whatever_its_solver_thinks():
    ours = memory("mergan", replay="joint")
    assert torch.equal(shown(believing(ours, 1)).y, shown(ours).y)


def test_a_scholar_labels_replay_by_its_solver_but_loses_no_class_whole():
    """A class that its solver sees nowhere keeps what was drawn for it."""
    ours = memory("dgr")
    assert torch.bincount(shown(believing(ours, 0)).y).tolist() == [18, 36, 9]
    solver = ours.solver()
    replayed = shown(ours)
    assert torch.equal(replayed.y[:54], solver.probabilities(replayed.x[:54]).argmax(dim=1))


@pytest.mark.parametrize(("importance", "share"), [("0", 1 / 3), ("0.7", 0.7)])
def test_a_scholar_weighs_the_new_task_for_its_solver(monkeypatch, importance, share):
    ours, shares = memory("dgr", importance=importance), []
    monkeypatch.setattr(Lesson, "solver_on", lambda self, pools, share=None, phase="": shares.append(share))
    lesson = Lesson(SPEC, ("a", "b", "new"), lambda e: ours.expert(e.digest), 20, 10, 0, None, CPU)
    ours.taught_solver(lesson, [each for _, each in ours.manifest.experts()], NEW)
    assert shares == [None, share], "who judges sees samples alone"


def test_examples_that_are_put_together_keep_their_classes():
    old = TaskData(torch.zeros(3, 6), torch.tensor([0, 1, 1]), ("a", "b"))
    both = together(old, TaskData(torch.ones(2, 6), torch.tensor([1, 0]), ("b", "c")))
    assert both.classes == ("a", "b", "c") and both.y.tolist() == [0, 1, 1, 2, 1]
    assert both.x[:, 0].tolist() == [0, 0, 0, 1, 1]


def test_replaying_can_be_cancelled():
    def stop():
        raise Cancelled

    with pytest.raises(Cancelled):
        memory("dgr").shown(NEW, stop)
