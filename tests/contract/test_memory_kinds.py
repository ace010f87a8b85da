"""One contract for all kinds: learn, sample, restore, never forget, refuse what cannot be learned.

Every registered kind is in it, with the options that it has by default, unless rows of `ROWS` say what to test of it
instead. So is the smallest kind there can be, which is registered here alone.
"""

import time
from dataclasses import dataclass, field, replace

import pytest
import torch

from dgm_core import lesson
from dgm_core.bundles import Bundle
from dgm_core.errors import Cancelled, CannotForget, CannotLearn, CannotSleep, QualityTooLow
from dgm_core.experts import draw
from dgm_core.manifest import DataSpec, Learned, Manifest
from dgm_core.memories import KINDS, load_memory, new_manifest
from dgm_core.memory import TaskData, Terms
from dgm_core.precision import ReducedExpert
from memory_server.codec.analysis import task_analysis
from tests.contract.gaussian import GaussianMemory
from tests.dgm_core.bases import tiny_bases

pytestmark = pytest.mark.usefixtures("small_batches")

IMAGE = DataSpec((1, 8, 8), "uint8")
VECTOR = DataSpec((6,), "float32")
CPU = torch.device("cpu")
SHORT = Terms(steps=30)
SMALL = {"width": "4"}
RESIDUAL = {"width": "1", "network": "residual"}


@dataclass(frozen=True)
class Variant:
    """A kind as its users may set it up.

    Arguments:
        kind: registered name.
        options: that make it small and quick, or choose a form.
        specs: what it can hold.
        builds_on: whether a later task stands on earlier ones, so that these cannot go before it.
        side_by_side: whether tasks may be learned at one time; None: what the kind says is put to the test.
        by_default: whether all of the contract is tested by `make test`, or most of it by `make test-slow` alone,
            because another variant goes the same ways.
    """

    kind: str
    options: dict[str, str] = field(default_factory=dict)
    specs: tuple[DataSpec, ...] = (IMAGE, VECTOR)
    builds_on: bool = False
    side_by_side: bool | None = None
    by_default: bool = True

    def empty(self, spec=IMAGE, seed=0, **options):
        """The manifest of a new memory, and the blobs that it needs from the start."""
        manifest = new_manifest(self.kind, {**self.options, **options}, spec, seed, bases=tiny_bases())
        return manifest, {base.digest: base.blob for base in tiny_bases().all if base.digest == manifest.base}


ROWS = {
    "dgmw": Variant("dgmw", SMALL, builds_on=True, side_by_side=False),
    "dgma": Variant("dgma", SMALL, builds_on=True, side_by_side=False),
    "dgma of residual networks": Variant(
        "dgma", RESIDUAL, (IMAGE,), builds_on=True, side_by_side=False, by_default=False
    ),
    "dual": Variant("dual", {**SMALL, "noise": "8", "learner": "8"}, side_by_side=False),
    "dual of GANs": Variant(
        "dual", {**SMALL, "noise": "8", "learner": "8", "generator": "gan"}, side_by_side=False, by_default=False
    ),
    "gan_memory": Variant("gan_memory", specs=(IMAGE,), side_by_side=True),
    "gan_memory in low rank": Variant("gan_memory", {"styles": "lowrank"}, (IMAGE,), side_by_side=True),
    "gan_memory sharing knowledge": Variant(
        "gan_memory", {"styles": "shared"}, (IMAGE,), builds_on=True, side_by_side=False
    ),
    "gan_memory from the nearest style": Variant(
        "gan_memory",
        {"styles": "shared", "start": "nearest"},
        (IMAGE,),
        builds_on=True,
        side_by_side=False,
        by_default=False,
    ),
    "dgr": Variant("dgr", SMALL, side_by_side=False, by_default=False),
    "mergan": Variant("mergan", SMALL, side_by_side=False),
    "mergan retrained jointly": Variant("mergan", {**SMALL, "replay": "joint"}, side_by_side=False, by_default=False),
}
ALL_KINDS = KINDS | {GaussianMemory.kind: GaussianMemory}
ROWLESS = {kind: Variant(kind) for kind in ALL_KINDS if kind not in {row.kind for row in ROWS.values()}}
VARIANTS = ROWS | ROWLESS
RETRAINED = {name: variant for name, variant in VARIANTS.items() if ALL_KINDS[variant.kind].consolidated}
APART = {name: variant for name, variant in VARIANTS.items() if name not in RETRAINED}  # `dual` until it sleeps


def shows_all(variant):
    """Whether a kind shows its generator samples of all that is known, beside every task."""
    return variant.kind == "dgr" or variant.options.get("replay") == "joint"


def says_side_by_side(variant):
    kind = ALL_KINDS[variant.kind]
    return kind.side_by_side(kind.options({"seed": "0", **variant.options}, IMAGE, tiny_bases()))


def marks(variant):
    return () if variant.by_default else (pytest.mark.slow,)


def each_of(chosen):
    return pytest.mark.parametrize(
        "variant", [pytest.param(variant, id=name, marks=marks(variant)) for name, variant in chosen.items()]
    )


variants, apart_variants = each_of(VARIANTS), each_of(APART)
retrained_variants = pytest.mark.parametrize("variant", RETRAINED.values(), ids=RETRAINED)
with_specs = pytest.mark.parametrize(
    ("variant", "spec"),
    [
        pytest.param(variant, spec, id=f"{name}-{'image' if spec.is_image else 'vector'}", marks=marks(variant))
        for name, variant in VARIANTS.items()
        for spec in variant.specs
    ],
)


@each_of({name: variant for name, variant in VARIANTS.items() if variant.side_by_side is not None})
def test_a_kind_says_whether_its_tasks_may_be_learned_side_by_side(variant):
    assert says_side_by_side(variant) == variant.side_by_side


@variants
def test_with_nothing_learned_there_is_nothing_to_consolidate_and_nothing_to_repeat(variant):
    manifest, blobs = variant.empty()
    kind, memory = KINDS[variant.kind], load_memory(manifest, blobs)
    assert not kind.drowsy(manifest) and kind.awake(manifest) == ()
    with pytest.raises(CannotSleep):
        memory.sleep(report=lambda _: None, device=CPU)
    with pytest.raises(CannotLearn) as caught:
        learn(manifest, blobs, examples(IMAGE, [0]), "t1", replace(SHORT, revises="t0"))
    assert caught.value.field == "terms.revises"


def examples(spec, labels, n=24, seed=0):
    """n examples per label; every label has a place of its own."""
    source = torch.Generator().manual_seed(seed)
    xs = []
    for label in labels:
        where = sum(map(ord, str(label)))
        if spec.is_image:
            x = torch.randint(0, 60, (n, *spec.shape), generator=source, dtype=torch.uint8)
            x[:, :, where % 8, :] = 255
        else:
            x = torch.randn(n, *spec.shape, generator=source) * 0.3
            x[:, where % spec.shape[0]] += 10
        xs.append(x)
    return TaskData(torch.cat(xs), torch.arange(len(labels)).repeat_interleave(n), tuple(labels))


known: dict[tuple[object, ...], Learned] = {}


def learn(manifest, blobs, data, task, terms=SHORT):
    """The memory with one more task; as learning has no other inputs than these, it is done once for all tests."""
    asked = (manifest.to_json(), data.x.numpy().tobytes(), data.y.numpy().tobytes(), data.classes, task, terms)
    if asked not in known:
        known[asked] = learned_now(manifest, blobs, data, task, terms)
    return manifest.commit(known[asked]), {**blobs, **known[asked].blobs}


def learned_now(manifest, blobs, data, task, terms=SHORT, report=lambda progress: None):
    return load_memory(manifest, blobs).learn(data, task=task, terms=terms, report=report, device=CPU)


def bytes_of(manifest, blobs, task):
    """Samples of a task in full and in reduced precision."""
    memory = load_memory(manifest, blobs)
    (entry,) = [entry for owner, entry in manifest.experts() if owner.task == task]
    expert = memory.expert(entry.digest)
    source = torch.Generator().manual_seed(1)
    drawn = (
        draw(each, label, 5, manifest.spec, CPU, source)
        for each in (expert, ReducedExpert(expert))
        for label in entry.classes
    )
    return b"".join(x.numpy().tobytes() for x in drawn)


@with_specs
def test_later_tasks_leave_the_bytes_of_earlier_ones_where_a_kind_promises_it(variant, spec):
    manifest, blobs = variant.empty(spec, seed=3)
    first = {}
    for index, labels in enumerate([(0, 1), (2,), (3, 4, 5)]):
        manifest, blobs = learn(manifest, blobs, examples(spec, labels), f"t{index}")
        manifest = Manifest.from_json(manifest.to_json())
        for task in manifest.tasks:
            now = bytes_of(manifest, blobs, task.task)
            assert first.setdefault(task.task, now) == now or not KINDS[variant.kind].exact
    assert manifest.classes == (0, 1, 2, 3, 4, 5) and manifest.revision == 3
    assert load_memory(manifest, blobs).solver().classes == manifest.classes


@with_specs
def test_samples_have_the_learned_shape_dtype_and_scale(variant, spec):
    manifest, blobs = learn(
        *variant.empty(spec), examples(spec, ["a", "b"]), "t0", SHORT if spec.is_image else Terms(steps=150)
    )
    expert = load_memory(manifest, blobs).expert(manifest.tasks[0].experts[0].digest)
    z, c = torch.randn(40, expert.noise_dim), torch.arange(40) % 2
    x, reduced = expert.generate(z, c), ReducedExpert(expert).generate(z, c)
    assert x.shape == reduced.shape == (40, *spec.shape) and x.dtype == reduced.dtype == torch.float32
    assert (reduced - x).abs().mean() < 0.02 * x.abs().max()
    if spec.is_image:
        assert x.abs().max() <= 1
    else:
        where = ord("a") % spec.shape[0]
        assert x[::2, where].mean() > 4, "vectors come out in the scale of their data"


@with_specs
def test_experts_of_one_signature_differ_in_their_tensors_alone(variant, spec):
    """So a digest, which is of the tensors, says all of an expert, and experts are computed side by side."""
    manifest, blobs = variant.empty(spec)
    for index in range(2):
        manifest, blobs = learn(manifest, blobs, examples(spec, [index]), f"t{index}")
    memory = load_memory(manifest, blobs)
    experts = [memory.expert(entry.digest) for _, entry in manifest.experts()]
    if experts[0].signature != experts[1].signature:
        pytest.skip("they are of other widths")
    z, c = torch.randn(2, 4, experts[0].noise_dim), torch.zeros(2, 4, dtype=torch.int64)
    alone = torch.stack([expert.generate(*each) for expert, *each in zip(experts, z, c, strict=True)])
    together = Bundle(experts).generate(z, c)
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-4), "something else differs: make it a buffer"


@variants
def test_a_row_does_not_hang_on_what_the_others_of_its_pass_are(variant):
    manifest, blobs = learn(*variant.empty(), examples(IMAGE, [0, 1]), "t0")
    expert = load_memory(manifest, blobs).expert(manifest.tasks[0].experts[0].digest)
    z, c = torch.randn(16, expert.noise_dim), torch.arange(16) % 2
    whole = expert.generate(z, c)
    z[8:], c[8:] = 0, 0
    assert torch.equal(expert.generate(z, c)[:8], whole[:8])


@pytest.mark.parametrize(
    "variant",
    [
        # By default where it is hardest: a generator that is held on old classes while it learns a new one.
        pytest.param(v, id=name, marks=() if name in {"mergan", *ROWLESS} else pytest.mark.slow)
        for name, v in VARIANTS.items()
        if VECTOR in v.specs and not shows_all(v)
    ],
)
def test_a_new_class_of_vectors_is_learned_however_far_from_the_old_ones_it_lies(variant):
    """What is shown all of its classes is left out: it scales by all of them, and takes far more steps."""
    manifest, blobs = variant.empty(VECTOR, **({"width": "12"} if "width" in variant.options else {}))
    for index, (label, centre) in enumerate([("a", 10.0), ("b", -10.0)]):
        x = torch.randn(80, 6, generator=torch.Generator().manual_seed(index)) * 0.3 + centre
        data = TaskData(x, torch.zeros(80, dtype=torch.int64), (label,))
        manifest, blobs = learn(manifest, blobs, data, f"t{index}", Terms(steps=300))
    assert manifest.tasks[1].quality > 0.9
    for task, centre in zip(manifest.tasks, (10.0, -10.0), strict=True):
        expert = load_memory(manifest, blobs).expert(task.experts[0].digest)
        x = expert.generate(torch.randn(200, expert.noise_dim), torch.zeros(200, dtype=torch.int64))
        assert (x.mean(dim=0) - centre).abs().max() < 1


@variants
def test_learning_changes_neither_memory_nor_manifest_nor_blobs(variant):
    manifest, blobs = learn(*variant.empty(), examples(IMAGE, [0]), "t0")
    memory, frozen, before = load_memory(manifest, blobs), dict(blobs), manifest.to_json()
    memory.learn(examples(IMAGE, [1]), task="t1", terms=SHORT, report=lambda p: None, device=CPU)
    assert blobs == frozen and manifest.to_json() == before
    assert memory.solver().classes == (0,)


@variants
def test_the_same_seed_and_data_learn_the_same_memory(variant):
    made = [learned_now(*variant.empty(seed=7), examples(IMAGE, [0, 1]), "t0") for _ in range(2)]
    assert replace(made[0].entry, seconds=0) == replace(made[1].entry, seconds=0)


@pytest.mark.parametrize(
    "variant",
    [
        # All of them walk through their schedule by one clock; the dual memory has another way of training.
        pytest.param(variant, id=name, marks=() if name in {"dgmw", "dual", *ROWLESS} else pytest.mark.slow)
        for name, variant in VARIANTS.items()
        if variant.options != RESIDUAL  # whose first steps alone may take as long
    ],
)
def test_a_limit_in_seconds_bounds_the_whole_task_and_still_goes_through_the_whole_schedule(variant):
    started = time.monotonic()
    limit = Terms(steps=10**6, seconds=3.0)
    manifest, blobs = learn(*variant.empty(), examples(IMAGE, [0, 1]), "t0", limit)
    (task,), taken = manifest.tasks, time.monotonic() - started
    assert taken < 15
    if task.steps:
        assert taken > 2 and 30 < task.steps < 10**6, "what is fitted at once has taken no steps"
    assert bytes_of(manifest, blobs, "t0")


@variants
def test_the_randomness_of_the_caller_is_left_alone(variant):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    learned_now(*variant.empty(), examples(IMAGE, [0]), "t0")
    assert torch.equal(torch.rand(3), expected)


@variants
def test_a_class_taught_twice_has_two_experts_and_one_head(variant):
    manifest, blobs = variant.empty()
    manifest, blobs = learn(manifest, blobs, examples(IMAGE, [0, 1]), "t0")
    manifest, blobs = learn(manifest, blobs, examples(IMAGE, [1], n=48), "t1")
    assert manifest.classes == (0, 1)
    assert [entry.examples for _, entry in manifest.experts()] == [(22, 22), (43,)]
    assert load_memory(manifest, blobs).solver().classes == (0, 1)


@apart_variants
def test_forgetting_the_last_task_goes_back_to_before_it_was_learned(variant):
    """Exact: what remains is the same, and the same task learned again is the same task again."""
    before, blobs = learn(*variant.empty(), examples(IMAGE, [0, 1]), "t0")
    after, blobs = learn(before, blobs, examples(IMAGE, [2]), "t1")
    rolled_back = after.without("t1")
    assert rolled_back.tasks == before.tasks and rolled_back.revision == after.revision + 1
    assert not rolled_back.complete
    assert set(rolled_back.digests) == {before.tasks[0].blob, before.base} - {""}
    again, _ = learn(rolled_back, blobs, examples(IMAGE, [2]), "t1")
    assert again.tasks[1].experts == after.tasks[1].experts


@apart_variants
def test_a_task_that_later_ones_reuse_is_not_forgotten_and_they_are_named(variant):
    manifest, blobs = variant.empty()
    for index in range(3):
        manifest, blobs = learn(manifest, blobs, examples(IMAGE, [index]), f"t{index}")
    dependents = manifest.dependents("t0")
    if not variant.builds_on:
        assert dependents == (), "a kind whose tasks build on earlier ones has a row in ROWS that says so"
        first = {task: bytes_of(manifest, blobs, task) for task in ("t1", "t2")}
        left = manifest.without("t0")
        kept = {digest: blobs[digest] for digest in left.digests}
        assert left.classes == (1, 2) and first == {task: bytes_of(left, kept, task) for task in first}
        return
    assert dependents, "with gates half open, or with knowledge to use, a later task reuses something"
    with pytest.raises(CannotForget, match=f"{dependents[-1]}.*newest first") as refused:
        manifest.without("t0")
    assert refused.value.dependents == dependents
    with pytest.raises(KeyError):
        manifest.without("t9")


@apart_variants
def test_an_erasable_task_is_reused_by_nobody_and_goes_without_a_trace(variant):
    manifest, blobs = variant.empty()
    manifest, blobs = learn(manifest, blobs, examples(IMAGE, [0]), "t0")
    manifest, blobs = learn(manifest, blobs, examples(IMAGE, [1]), "secret", replace(SHORT, erasable=True))
    manifest, blobs = learn(manifest, blobs, examples(IMAGE, [2]), "t2")
    assert manifest.tasks[1].erasable and "secret" not in manifest.tasks[2].reuses
    first = {task: bytes_of(manifest, blobs, task) for task in ("t0", "t2")}
    secret = manifest.tasks[1].blob
    manifest = manifest.without("secret")
    assert secret not in manifest.digests and manifest.classes == (0, 2)
    del blobs[secret]
    assert first == {task: bytes_of(manifest, blobs, task) for task in first}
    manifest, blobs = learn(manifest, blobs, examples(IMAGE, [3]), "t3")
    assert first == {task: bytes_of(manifest, blobs, task) for task in first}


@apart_variants
def test_a_solver_is_made_anew_from_what_is_left(variant):
    manifest, blobs = learn(*variant.empty(), examples(IMAGE, [0, 1]), "t0")
    manifest, blobs = learn(manifest, blobs, examples(IMAGE, [2]), "t1")
    manifest = manifest.without("t1")
    seen = []
    shared = load_memory(manifest, blobs).restore(report=seen.append, device=CPU)
    restored = manifest.restored(shared)
    assert restored.complete and {p.phase for p in seen} == {"solver"}
    assert (seen[0].fraction, seen[-1].fraction) == (0, 1)
    assert load_memory(restored, {**blobs, **shared.blobs}).solver().classes == (0, 1)


@apart_variants
def test_the_generator_is_trained_without_a_look_at_earlier_tasks(variant):
    """So its cost does not grow with the number of tasks, but for the growth of the network."""
    if variant.options.get("start") == "nearest":
        pytest.skip("it looks once, before the first step")
    manifest, blobs = learn(*variant.empty(), examples(IMAGE, [0]), "t0")
    memory, seen, loaded_at = load_memory(manifest, blobs), [], []
    materialise = memory.expert

    def expert(digest):
        loaded_at.append(seen[-1])
        return materialise(digest)

    memory.expert = expert
    memory.learn(examples(IMAGE, [1]), task="t1", terms=SHORT, report=seen.append, device=CPU)
    assert loaded_at and all(p.phase != "generator" or p.step == p.steps for p in loaded_at)


@variants
def test_a_report_that_raises_stops_learning_at_once(variant):
    def stop(progress):
        raise Cancelled

    with pytest.raises(Cancelled):
        learned_now(*variant.empty(), examples(IMAGE, [0]), "t0", Terms(steps=10**9), stop)


@variants
def test_no_score_chooses_what_is_kept(variant, monkeypatch):
    """I8: whatever the reverse accuracy says, the same generator and the same solver are committed."""
    kept = []
    for score in (0.0, 1.0):
        monkeypatch.setattr("dgm_core.lesson.accuracy", lambda *_, score=score: score)
        entry = learned_now(*variant.empty(), examples(IMAGE, [0, 1]), "t0").entry
        assert entry.quality == score
        kept.append((entry.blob, entry.experts))
    assert kept[0] == kept[1]


@variants
def test_the_solver_sees_no_real_example(variant, monkeypatch):
    if variant.kind == "dgr":
        pytest.skip("its solver is defined by the real examples that it sees")
    data = examples(IMAGE, [0, 1])
    real = {row.numpy().tobytes() for row in data.x}
    shown = []
    train = lesson.train_classifier
    monkeypatch.setattr(lesson, "train_classifier", lambda *given: shown.append(given[2]) or train(*given))
    learned_now(*variant.empty(), data, "t0")
    (pools,) = shown
    assert {label for pool in pools for label in pool.y.tolist()} == {0, 1}
    assert not any(row.numpy().tobytes() in real for pool in pools for row in pool.x)


@variants
def test_too_low_a_quality_keeps_nothing_and_says_what_to_do(variant):
    noise = TaskData(torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8), torch.arange(64) % 2, (0, 1))
    with pytest.raises(QualityTooLow, match="more steps"):
        learn(*variant.empty(), noise, "t0", Terms(steps=20, min_quality=1.0))


@variants
def test_what_cannot_be_learned_is_refused_by_field(variant):
    with pytest.raises(CannotLearn, match="at least 8") as few:
        learn(*variant.empty(), examples(IMAGE, [0], n=3), "t0")
    assert few.value.field == "count"
    with pytest.raises(CannotLearn, match="shape") as shape:
        learn(*variant.empty(), examples(DataSpec((1, 9, 8), "uint8"), [0]), "t0")
    assert shape.value.field == "spec.shape"


@variants
@pytest.mark.parametrize(("name", "value"), [("colour", "red"), ("seed", "-1"), ("seed", "x"), ("recipe", "slow")])
def test_options_that_make_no_sense_are_refused_by_name(variant, name, value):
    with pytest.raises(CannotLearn) as refused:
        variant.empty(**{name: value})
    assert refused.value.field == f"options.{name}"


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("dgmw", "width", "wide"),
        ("dgma", "noise", "-1"),
        ("dgmw", "network", "transformer"),
        ("dual", "generator", "transformer"),
        ("dual", "kappa", "much"),
        ("dual", "kappa", "0.5"),
        ("dual", "learner", "24x24"),
        ("dual", "short_learner", "12-0"),
        ("gan_memory", "base", "nowhere"),
        ("gan_memory", "styles", "baroque"),
        ("gan_memory", "start", "furthest"),
        ("mergan", "replay", "never"),
        ("mergan", "replayed", "-1"),
        ("mergan", "alignment", "10001"),
        ("mergan", "alignment", "firm"),
        ("dgr", "importance", "1.5"),
    ],
)
def test_options_of_one_kind_are_refused_by_name(kind, name, value):
    with pytest.raises(CannotLearn) as refused:
        new_manifest(kind, {name: value}, IMAGE, seed=0, bases=tiny_bases())
    assert refused.value.field == f"options.{name}"


@variants
def test_an_expert_that_does_not_have_its_digest_is_not_served(variant):
    manifest, blobs = learn(*variant.empty(), examples(IMAGE, [0]), "t0")
    task = manifest.tasks[0]
    forged = replace(task, experts=(replace(task.experts[0], digest="0" * 64),))
    with pytest.raises(ValueError, match="a blob was changed"):
        load_memory(replace(manifest, tasks=(forged,)), blobs).expert("0" * 64)
    with pytest.raises(KeyError):
        load_memory(manifest, blobs).expert("1" * 64)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(CannotLearn, match="dgmw"):
        new_manifest("mixture", {}, IMAGE, seed=0)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_takes_vectors_or_names_those_that_do(kind):
    others = sorted(name for name in KINDS if KINDS[name].vectors)
    if kind in others:
        assert new_manifest(kind, {}, VECTOR, seed=0).spec == VECTOR
        return
    with pytest.raises(CannotLearn) as caught:
        new_manifest(kind, {}, VECTOR, seed=0, bases=tiny_bases())
    assert caught.value.field == "kind" and str(caught.value).endswith(f"vectors are {', '.join(others)}")


@retrained_variants
def test_one_blob_holds_all_tasks_and_none_can_be_taken_out_of_it(variant):
    manifest, blobs = variant.empty()
    for index in range(2):
        manifest, blobs = learn(manifest, blobs, examples(IMAGE, [index]), f"t{index}")
    before, after = manifest.tasks
    assert manifest.digests == (after.blob, manifest.shared["solver"])
    assert (before.task, before.classes, before.experts[0].examples) == ("t0", (0,), (22,))
    assert bytes_of(manifest, {digest: blobs[digest] for digest in manifest.digests}, "t0")
    with pytest.raises(CannotForget, match=f"{before.task} cannot be forgotten: it is consolidated"):
        manifest.without("t0")
    with pytest.raises(CannotLearn, match="none can be taken out") as refused:
        learn(manifest, blobs, examples(IMAGE, [2]), "secret", replace(SHORT, erasable=True))
    assert refused.value.field == "terms.erasable"


@each_of({name: variant for name, variant in VARIANTS.items() if says_side_by_side(variant)})
def test_tasks_that_stand_on_the_base_alone_are_the_same_in_any_company(variant):
    """So they may be learned side by side and in any order, and one that was forgotten has left no trace."""
    manifest, blobs = variant.empty()
    alone, _ = learn(manifest, blobs, examples(IMAGE, [2]), "t2")
    for index in range(2):
        manifest, blobs = learn(manifest, blobs, examples(IMAGE, [index]), f"t{index}")
    manifest, blobs = learn(manifest, blobs, examples(IMAGE, [2]), "t2")
    assert (manifest.tasks[2].blob, manifest.tasks[2].experts) == (alone.tasks[0].blob, alone.tasks[0].experts)
    kept = manifest.without("t0").without("t1")
    assert kept.tasks[0].blob == alone.tasks[0].blob


def test_two_tasks_learned_at_one_time_may_teach_the_same_class():
    manifest, blobs = VARIANTS["gan_memory"].empty()
    made = [learn(manifest, blobs, examples(IMAGE, labels), f"t{labels[1]}") for labels in ((0, 1), (0, 2))]
    (first, _), (second, _) = made
    both = replace(first, tasks=(*first.tasks, *second.tasks))
    assert both.classes == (0, 1, 2) and [expert.classes for _, expert in both.experts()] == [(0, 1), (0, 2)]
    assert both.without("t1").tasks == second.tasks and both.without("t2").tasks == first.tasks
    found = load_memory(both, blobs | made[0][1] | made[1][1]).restore(report=lambda p: None, device=CPU)
    assert found.digests.keys() == {"solver"}


def test_a_task_may_have_a_hundred_classes():
    variant = VARIANTS["gan_memory"]
    manifest, blobs = learn(*variant.empty(), examples(IMAGE, range(100), n=8), "t0", Terms(steps=3))
    assert manifest.classes == tuple(range(100)) and len(bytes_of(manifest, blobs, "t0")) == 2 * 100 * 5 * 64


def test_a_task_learned_beside_others_drops_the_solver_that_has_not_seen_them():
    variant = VARIANTS["gan_memory"]
    manifest, blobs = variant.empty()
    first = load_memory(manifest, blobs)
    made = [
        first.learn(examples(IMAGE, [label]), task=f"t{label}", terms=SHORT, report=lambda p: None, device=CPU)
        for label in (0, 1)
    ]
    manifest = manifest.commit(made[0])
    assert manifest.complete
    manifest = manifest.commit(made[1])
    assert not manifest.complete and manifest.classes == (0, 1)


@variants
def test_what_a_kind_measures_of_a_task_can_be_told(variant):
    manifest, _ = learn(*variant.empty(), examples(IMAGE, [0, 1]), "t0", Terms(steps=3))
    (entry,) = Manifest.from_json(manifest.to_json()).tasks
    told = task_analysis(entry)
    assert [layer.layer for layer in told.layers] == entry.analysis.get("order", [])
    blob = told.weight_bytes + told.mask_bytes + told.own_bytes
    assert (told.gate, blob > 0) == (entry.analysis.get("gate", ""), bool(entry.analysis))
