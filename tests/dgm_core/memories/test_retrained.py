"""Kinds that retrain one generator: what it is shown of what it knew, and how that is labelled."""

from dataclasses import replace

import pytest
import torch

from dgm_core.blobs import digest
from dgm_core.errors import Cancelled
from dgm_core.experts import draw
from dgm_core.lesson import Lesson
from dgm_core.manifest import DataSpec
from dgm_core.memories import KINDS, load_memory, new_manifest
from dgm_core.memories.mergan import Mergan
from dgm_core.memories.retrained import together
from dgm_core.memory import TaskData, Terms
from dgm_core.networks.classifiers import Classifier
from dgm_core.solvers import ClassifierSolver
from dgm_core.training.recipes import RETRAINED

SPEC = DataSpec((6,), "float32")
CPU = torch.device("cpu")
NEW = TaskData(torch.randn(9, 6), torch.zeros(9, dtype=torch.int64), ("new",))
pytestmark = pytest.mark.usefixtures("small_batches")


def memory(kind, **options):
    """A memory that has learned 18 examples of "a" and 36 of "b", a tenth of which it held out."""
    manifest = new_manifest(kind, {"width": "2", **options}, SPEC, seed=0)
    y = torch.tensor([0] * 20 + [1] * 40)
    return taught(load_memory(manifest, {}), TaskData(torch.randn(60, 6) + 4 * y[:, None], y, ("a", "b")))


def taught(memory, data, steps=30):
    """The memory with one more task."""
    manifest, terms = memory.manifest, Terms(steps=steps)
    name = f"t{len(manifest.tasks)}"
    learned = memory.learn(data, task=name, terms=terms, report=lambda progress: None, device=CPU)
    return load_memory(manifest.commit(learned), {**memory.blobs, **learned.blobs})


def around(centre, label):
    """80 examples of one class, that close together."""
    source = torch.Generator().manual_seed(round(abs(centre)))
    return TaskData(torch.randn(80, 6, generator=source) * 0.3 + centre, torch.zeros(80, dtype=torch.int64), (label,))


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


def test_alignment_shows_replay_of_the_classes_that_are_taught_again_and_holds_the_others():
    again = replace(NEW, y=torch.arange(9) % 2, classes=("b", "new"))
    both = memory("mergan").shown(again, lambda: None)
    assert both.classes == ("b", "new") and torch.bincount(both.y).tolist() == [36 + 5, 4]
    assert torch.equal(both.x[36:], again.x)


def halves(steps, width):
    """The share of samples on the first side of a class that was taught on one and then on the other."""
    ours = load_memory(new_manifest("mergan", {"width": width}, SPEC, seed=0), {})
    ours = taught(taught(ours, around(2.0, "a"), steps), around(-2.0, "a"), steps)
    entry = ours.manifest.tasks[0].experts[0]
    x = draw(ours.expert(entry.digest), "a", 500, SPEC, CPU, torch.Generator().manual_seed(1))
    return float((x.mean(dim=1) > 0).float().mean())


def test_a_class_that_is_taught_again_is_both_halves_under_alignment(monkeypatch):
    """At the full rate, at which few steps are enough."""
    monkeypatch.setattr(Mergan, "recipes", {"fast": replace(RETRAINED, batch=16, retraining=1.0)})
    assert 0.3 < halves(200, "8") < 0.7


@pytest.mark.slow
def test_a_class_that_is_taught_again_is_both_halves_with_what_the_recipe_takes(monkeypatch):
    monkeypatch.setattr(Mergan, "recipes", {"fast": RETRAINED})
    assert 0.3 < halves(None, "0") < 0.7


@pytest.mark.parametrize(
    ("kind", "options", "steps"),
    [("mergan", {}, [10, 10, 10]), ("mergan", {"replay": "joint"}, [10, 20, 30]), ("dgr", {}, [10, 20, 30])],
)
def test_default_steps_are_counted_from_all_that_is_shown(monkeypatch, kind, options, steps):
    """Of what is held, nothing is shown."""
    counted = []
    recipe = replace(KINDS[kind].recipes["fast"], steps=lambda *shown: counted.append(shown) or 10 * shown[1])
    monkeypatch.setattr(KINDS[kind], "recipes", {"fast": recipe})
    ours = load_memory(new_manifest(kind, {"width": "2", **options}, SPEC, seed=0), {})
    for label in ("a", "b", "c"):
        ours = taught(ours, around(0.0, label), None)
    assert [entry.steps for entry in ours.manifest.tasks] == steps
    replayed = [0, 0, 0] if steps[-1] == 10 else [0, 72, 144]
    assert [examples for examples, _ in counted] == [80 + each for each in replayed]


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


@pytest.mark.parametrize(
    ("importance", "classes", "share"),
    [("0", ("new",), 1 / 3), ("0.7", ("new",), 0.7), ("0", ("b", "a"), 1 / 2), ("0", ("b", "new"), 1 / 2)],
)
def test_a_scholar_weighs_the_new_task_for_its_solver(monkeypatch, importance, classes, share):
    ours, shares = memory("dgr", importance=importance), []
    monkeypatch.setattr(Lesson, "solver_on", lambda self, pools, share=None, phase="": shares.append(share))
    heads = tuple(dict.fromkeys(("a", "b", *classes)))
    lesson = Lesson(SPEC, heads, lambda e: ours.expert(e.digest), 20, 10, 0, None, CPU)
    ours.taught_solver(lesson, [each for _, each in ours.manifest.experts()], replace(NEW, classes=classes))
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
