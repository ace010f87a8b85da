"""The kind `dual`: short-term memories at once, long-term memory after sleep, revision of what is known."""

from dataclasses import replace

import pytest
import torch

from dgm_core.errors import CannotForget, CannotLearn, CannotSleep
from dgm_core.generative.vae import VaeMaker
from dgm_core.manifest import DataSpec
from dgm_core.memories import KINDS, load_memory
from dgm_core.memories.dual import DualMemory
from dgm_core.memory import TaskData, Terms
from tests.contract.test_memory_kinds import CPU, IMAGE, VARIANTS, bytes_of, examples, learn

pytestmark = pytest.mark.usefixtures("small_batches")

DUAL = replace(VARIANTS["dual"], options={"width": "4", "noise": "8"})
TERMS = Terms(steps=30)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """What sleeps take from the recipe is enough for 8 × 8 pixels."""
    recipe = replace(DualMemory.recipes["fast"], steps=lambda examples, classes: 40, classifier_steps=20, replay=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DualMemory, "recipes", {**DualMemory.recipes, "fast": recipe})
        yield


def taught(manifest, blobs, *lessons, terms=TERMS):
    for task, labels in lessons:
        manifest, blobs = learn(manifest, blobs, examples(IMAGE, labels), task, terms)
    return manifest, blobs


def slept(manifest, blobs, report=lambda progress: None):
    shared = load_memory(manifest, blobs).sleep(report=report, device=CPU)
    return manifest.restored(shared), {**blobs, **shared.blobs}


@pytest.fixture(scope="module")
def lived():
    """A memory that slept over two tasks and learned a third one."""
    seen = []
    awake = taught(*DUAL.empty(short_term="2"), ("t0", (0, 1)), ("t1", (2,)))
    asleep = slept(*awake, seen.append)
    return awake, asleep, taught(*asleep, ("t2", (3,))), seen


def test_it_is_drowsy_once_short_term_memory_is_full(lived):
    drowsy = KINDS["dual"].drowsy
    awake, asleep, after, _ = lived
    assert drowsy(awake[0]) and not drowsy(asleep[0]) and not drowsy(after[0])


def test_sleep_moves_all_tasks_into_one_blob_and_keeps_their_classes(lived):
    awake, (manifest, blobs), _, seen = lived
    assert [entry.consolidated for entry in manifest.tasks] == [True, True]
    assert manifest.tasks[0].blob == manifest.tasks[1].blob != awake[0].tasks[0].blob
    assert [e.classes for _, e in manifest.experts()] == [e.classes for _, e in awake[0].experts()]
    assert bytes_of(manifest, blobs, "t0") != bytes_of(*awake, "t0")
    assert load_memory(manifest, blobs).solver().classes == (0, 1, 2)
    assert [p.phase for p in seen if p.step == p.steps][-1] == "solver" and seen[-1].fraction == 1
    assert {p.phase for p in seen} == {"generator", "learner", "solver"}
    with pytest.raises(CannotForget, match="consolidated"):
        manifest.without("t1")
    with pytest.raises(CannotSleep, match="already"):
        slept(manifest, blobs)


def test_sleep_is_a_function_of_the_memory(lived):
    awake, asleep, _, _ = lived
    assert slept(*awake)[0] == asleep[0]


def test_what_is_learned_after_sleep_leaves_long_term_memory_as_it_is(lived):
    _, asleep, after, _ = lived
    assert bytes_of(*after, "t0") == bytes_of(*asleep, "t0")
    assert not after[0].tasks[2].consolidated and after[0].without("t2").classes == (0, 1, 2)


def test_the_holder_of_a_task_answers_for_it(lived):
    _, _, (manifest, blobs), _ = lived
    memory = load_memory(manifest, blobs)
    x = examples(IMAGE, [0, 1], n=8)
    solver = memory.solver("t0")
    assert solver.classes == (0, 1) and memory.solver("t2").classes == (3,)
    known = memory._long_term.probabilities(x.x)[:, :2]
    assert torch.allclose(solver.probabilities(x.x), known / known.sum(dim=1, keepdim=True))
    with pytest.raises(KeyError):
        memory.solver("t9")


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 1000.0), (1e-3, 0.0), (1e-3, 10.0)])
def test_a_published_learner_tells_vectors_apart_whatever_their_scale_and_offset(scale, offset):
    def two(n, seed):
        y = torch.arange(n) % 2
        x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
        x[:, 0] += 4.0 * y
        return TaskData(scale * x + offset, y, (0, 1))

    empty = DUAL.empty(DataSpec((6,), "float32"), learner="24-24")
    manifest, blobs = learn(*empty, two(200, 0), "t0", Terms(steps=200))
    test = two(1000, 1)
    guess = load_memory(manifest, blobs).solver("t0").probabilities(test.x).argmax(dim=1)
    assert (guess == test.y).float().mean() > 0.9


def test_a_task_that_repeats_one_in_long_term_memory_has_its_help(lived, monkeypatch):
    _, _, after, _ = lived
    sizes = []
    fit = VaeMaker.fit
    monkeypatch.setattr(VaeMaker, "fit", lambda self, data, *rest: (sizes.append(len(data)), fit(self, data, *rest))[1])
    manifest, blobs = taught(*after, ("again", (0, 1)), terms=replace(TERMS, revises="t0"))
    assert sizes == [2 * 44], "its own examples, and as many reconstructed ones"
    memory = load_memory(manifest, blobs)
    assert memory.solver("t0").probabilities(examples(IMAGE, [0]).x).shape[1] == 2
    assert manifest.tasks[-1].reuses == ()
    manifest, blobs = slept(manifest, blobs)
    held = load_memory(manifest, blobs)._long_term
    assert held.times == {"t0": 2, "t1": 1, "t2": 1}
    assert sizes[1:] == [2 * (22 + 44)], "whatever helped to learn it, a task is seen once each time"


def test_a_task_of_long_term_memory_that_comes_a_third_time_goes_on_from_the_second(lived):
    manifest, blobs = lived[1]
    for again in ("again", "again2"):
        manifest, blobs = taught(manifest, blobs, (again, (0, 1)), terms=replace(TERMS, revises="t0"))
    memory = load_memory(manifest, blobs)
    assert manifest.tasks[-1].reuses == ("again",)
    assert memory._holder(manifest.entry("t0")).times == {"t0": 2}


def test_a_task_that_repeats_one_in_short_term_memory_goes_on_from_it():
    manifest, blobs = taught(*DUAL.empty(), ("t0", (0, 1)))
    before = bytes_of(manifest, blobs, "t0")
    manifest, blobs = taught(manifest, blobs, ("again", (1,)), terms=replace(TERMS, revises="t0"))
    assert manifest.tasks[1].reuses == ("t0",) and bytes_of(manifest, blobs, "t0") == before
    with pytest.raises(CannotForget, match="again"):
        manifest.without("t0")
    assert manifest.without("again").classes == (0, 1)
    manifest, blobs = slept(manifest, blobs)
    assert load_memory(manifest, blobs)._long_term.times == {"t0": 2}


def test_capacity_bounds_long_term_memory_alone(monkeypatch):
    sizes = []
    fit = VaeMaker.fit
    monkeypatch.setattr(VaeMaker, "fit", lambda self, data, *rest: (sizes.append(len(data)), fit(self, data, *rest))[1])
    manifest, blobs = DUAL.empty(capacity="1000")
    slept(*learn(manifest, blobs, examples(IMAGE, [0, 1], n=600), "t0", TERMS))
    assert sizes == [1080, 1000]


def test_what_has_to_stay_erasable_stays_in_short_term_memory():
    erasable = replace(TERMS, erasable=True)
    manifest, blobs = taught(*DUAL.empty(short_term="1"), ("secret", (7,)), terms=erasable)
    assert not KINDS["dual"].drowsy(manifest)
    with pytest.raises(CannotSleep, match="erasable"):
        slept(manifest, blobs)
    before = bytes_of(manifest, blobs, "secret")
    manifest, blobs = slept(*taught(manifest, blobs, ("t1", (2,))))
    assert [entry.consolidated for entry in manifest.tasks] == [False, True]
    assert bytes_of(manifest, blobs, "secret") == before and manifest.without("secret").classes == (2,)


@pytest.mark.parametrize(
    ("terms", "labels", "field"),
    [
        (Terms(revises="t9"), (0,), "terms.revises"),
        (Terms(revises="secret"), (2,), "terms.revises"),
        (Terms(revises="t0"), (5,), "terms.revises"),
        (Terms(revises="t0", erasable=True), (0,), "terms.erasable"),
    ],
)
def test_what_is_no_repetition_is_refused_by_field(lived, terms, labels, field):
    manifest, blobs = lived[0]
    secret = replace(manifest.tasks[1], task="secret", erasable=True)
    with pytest.raises(CannotLearn) as refused:
        taught(replace(manifest, tasks=(*manifest.tasks, secret)), blobs, ("again", labels), terms=terms)
    assert refused.value.field == field


def test_what_auto_stands_for_suits_the_generator_and_the_data():
    def network(spec=IMAGE, **options):
        return DUAL.empty(spec, **options)[0].options["network"]

    assert network() == "dense" and network(generator="gan") == "auto" and network(network="dcgan") == "dcgan"
    assert network(DataSpec((3, 32, 32), "uint8")) == network(DataSpec((6,), "float32")) == "auto"


def test_the_published_recipe_has_the_published_learner_and_short_term_ones_are_smaller():
    def learners(**options):
        chosen = DUAL.empty(**options)[0].options
        return chosen["learner"], chosen["short_learner"]

    assert learners() == ("", "") and learners(recipe="paper") == ("24-24", "12-12")
    assert learners(learner="48-1") == ("48-1", "24-1") and learners(learner="48", short_learner="8-8") == ("48", "8-8")
    assert learners(recipe="paper", learner="") == ("", "")
    awake = taught(*DUAL.empty(learner="8-6"), ("t0", (0, 1)))
    assert hidden(*awake) == (4, 3) and hidden(*slept(*awake)) == (8, 6)


def test_a_memory_that_has_no_option_for_short_term_learners_goes_on_with_one_size_of_them():
    manifest, blobs = DUAL.empty(learner="8")
    former = {name: text for name, text in manifest.options.items() if name != "short_learner"}
    assert hidden(*taught(replace(manifest, options=former), blobs, ("t0", (0, 1)))) == (8,)


def hidden(manifest, blobs):
    """Layers of the learner that answers for a task."""
    return load_memory(manifest, blobs)._holder(manifest.entry("t0")).learner.network.hidden
