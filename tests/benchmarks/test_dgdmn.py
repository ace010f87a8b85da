"""The dual memory's experiments, tiny: a few random images in place of MNIST."""

import json
import sys

import numpy as np
import pytest
import torch
from dgdmn import __main__ as script
from dgdmn import baselines, generative, report, robustness, tasks
from dgdmn.course import averages, follow, of_the_last, steady
from dgdmn.settings import DGDMN, DGR, SETTINGS, Setting
from harness import lines

from memory_server.demo.datasets import Dataset, Part

SETTING = Setting(16, 16, 10, 8, 4, 1.0, 2, 0.0)


def images(each):
    """Ten classes of noisy stripes that a small network can tell apart."""
    source = np.random.default_rng(0)
    y = np.tile(np.arange(10), each)
    x = source.integers(0, 60, (len(y), 1, 28, 28)).astype(np.uint8)
    for row, label in enumerate(y):
        x[row, 0, 2 * label : 2 * label + 6] = 255
    return Part(x, y)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Small autoencoders that are hardly trained."""
    monkeypatch.setattr(generative, "EPOCHS", 2)
    monkeypatch.setattr(generative, "LONG", 2)
    monkeypatch.setattr(generative, "SHORT", 1)


@pytest.fixture
def mnist():
    return Dataset(images(16), images(5))


@pytest.fixture
def two(mnist):
    return tasks.digits(mnist, 16, 0)[:2]


def test_permnist_changes_the_centre_alone_in_the_same_way_in_training_and_test(mnist):
    six = {task.name: task for task in tasks.permnist(mnist, 50, seed=0)}
    assert len(six) == 6 and {len(task.train) for task in six.values()} == {50}
    plain = torch.from_numpy(mnist.test.x)
    for name, side in (("centre black", 8), ("centre white", 8), ("8 × 8 shuffled", 8), ("12 × 12 shuffled", 12)):
        x, edge = six[name].test.x, (28 - side) // 2
        inside = (..., slice(edge, edge + side), slice(edge, edge + side))
        again, before = x.clone(), plain[inside]
        again[inside] = before
        assert torch.equal(again, plain), name
        if "shuffled" in name:
            assert not torch.equal(x[inside], before)
            assert torch.equal(x[inside].flatten(2).sort().values, before.flatten(2).sort().values)
        else:
            assert (x[inside] == (255 if "white" in name else 0)).all()
    assert torch.equal(six["mirrored"].test.x.flip(-1), plain)
    assert torch.equal(six["original"].test.y, torch.from_numpy(mnist.test.y))


def test_every_task_of_permnist_samples_images_of_its_own_and_the_seed_decides(mnist):
    first, again, other = (tasks.permnist(mnist, 50, seed) for seed in (0, 0, 1))
    assert torch.equal(first[3].train.x, again[3].train.x)
    assert not torch.equal(first[3].train.x, other[3].train.x)
    assert not torch.equal(first[0].train.y, first[5].train.y)


def test_forty_tasks_are_ten_digits_in_four_views_each_with_a_label_of_its_own(mnist):
    forty = tasks.tdigits(mnist, 7, 0)
    assert [int(task.test.y.unique()) for task in forty] == list(range(40))
    assert {len(task.train) for task in forty} == {7} and {len(task.test) for task in forty} == {5}
    three = forty[3].test.x
    assert torch.equal(forty[13].test.x.flip(-1), three)
    assert torch.equal(forty[23].test.x.flip(-2), three)
    assert torch.equal(forty[33].test.x.mT, three)


def test_a_plain_network_forgets_the_first_digit_and_a_joint_one_does_not(mnist):
    ten = tasks.digits(Dataset(images(48), images(5)), 48, 0)[:3]
    torch.manual_seed(0)
    plain, joint = (follow(kind(SETTINGS["digits"], 784), ten) for kind in (baselines.Plain, baselines.Joint))
    assert plain["accuracies"][-1] == [0, 0, 1]
    assert averages(joint)[-1] > 0.9


def test_the_elastic_penalty_is_flat_where_it_was_set_and_its_slope_is_that_of_the_sum_over_tasks(two):
    torch.manual_seed(0)
    method = baselines.Elastic(SETTING, 784)
    anchors, informations = [], []
    for task in two:
        before = {name: total.clone() for name, total in method.weight.items()}
        method.learn(task)
        anchors.append({name: p.detach().clone() for name, p in method.network.named_parameters()})
        informations.append({name: total - before[name] for name, total in method.weight.items()})
    for p in method.network.parameters():
        p.data.add_(0.01)
    method.network.zero_grad()
    method.penalty(method.network).backward()
    for name, p in method.network.named_parameters():
        pairs = zip(informations, anchors, strict=True)
        expected = baselines.FISHER_WEIGHT * sum(f[name] * (p.detach() - at[name]) for f, at in pairs)
        assert torch.allclose(p.grad, expected, atol=1e-5)
    assert sum(float(total.sum()) for total in method.weight.values()) > 0


def test_pseudopatterns_fill_the_memory_and_are_labelled_by_the_network_as_it_was(two, monkeypatch):
    taught = []
    monkeypatch.setattr(baselines, "train", lambda network, x, y, epochs: taught.append((x, y)))
    method = baselines.Rehearsal(SETTING, 784)
    for task in two:
        method.learn(task)
    (x, _), (more, labels) = taught
    assert len(more) == baselines.REHEARSED * len(x)
    assert torch.allclose(labels[len(x) :], method.guess(more[len(x) :]))


def test_a_dual_memory_sleeps_when_its_short_term_memories_are_used_up_and_answers_from_the_holder(mnist):
    three = tasks.digits(mnist, 16, 0)[:3]
    torch.manual_seed(0)
    dual = generative.Dual(SETTING, three)
    course = follow(dual, three)
    assert [slept is not None for slept in course["awake"]] == [False, True, False]
    assert course["accuracies"][0] == [1] and course["accuracies"][2][2] == 1
    assert dual.long.times == {"0": 1, "1": 1} and set(dual.short) == {"2"}
    assert dual.holder("0") is dual.long and dual.holder("2") is dual.short["2"]
    assert dual.long.classes == (0, 1)


def test_a_task_that_comes_again_brings_what_long_term_memory_makes_of_it_and_counts_twice(two, monkeypatch):
    torch.manual_seed(0)
    dual = generative.Dual(SETTING, two)
    follow(dual, two)
    lessons = []
    taught = dual.taught
    monkeypatch.setattr(dual, "taught", lambda how, memory, news: lessons.append(news) or taught(how, memory, news))
    follow(dual, [two[0], two[1]])
    assert [[each.examples for each in news] for news in lessons] == [[32], [32], [16, 16]]
    assert dual.long.times == {"0": 2, "1": 2}


@pytest.mark.parametrize("short", [False, True])
def test_learners_have_the_epochs_of_the_paper_however_few_the_examples(two, short):
    spec = generative.LongTerm(SETTING, two).spec
    learner = generative.replay(SETTING, spec, 100, short=short).learner
    assert learner.hidden == ((4, 4) if short else (8, 8))
    assert [learner.steps(n) for n in (1, 128, 255, 1000, 20_000)] == [6, 6, 6, 42, 936]


def test_deep_generative_replay_consolidates_every_task(two):
    torch.manual_seed(0)
    course = follow(generative.LongTerm(SETTING, two), two)
    assert course["awake"] == [None, None] and len(course["accuracies"][1]) == 2


def test_noise_and_occlusion_are_what_they_say_and_nothing_at_level_zero():
    x = torch.full((3, 1, 28, 28), 200, dtype=torch.uint8)
    for spoil in robustness.SPOILING.values():
        assert torch.equal(spoil(x, 0.0), x)
    assert (robustness.occluded(x, 0.5) == 0).sum() == 3 * 14 * 14
    assert (robustness.noisy(x, 0.1) / 255.0 - 200 / 255).std() == pytest.approx(0.1, rel=0.1)


def test_claims_are_judged_by_what_was_measured():
    def line(last, seconds, names=("a", "b")):
        return {"tasks": names, "accuracies": [[1.0], last], "awake": [None, None], "seconds": [0, seconds]}

    courses = {"tdigits": {"NN": line([0, 0.8], 1), DGR: line([0.2, 0.4], 50), DGDMN: line([0.8, 0.8], 20)}}
    revisions = {DGDMN: line([0.7], 1, ("a", "a"))}
    spoilt = {how: {"reconstructed": [0.9], "as it is": [0.8]} for how in ("noise", "occlusion")}
    judged = [(found, held) for _, found, held in report.claims(courses, revisions, spoilt)]
    assert judged == [
        ("0.300 over 0.400", False),
        ("2.67 times", True),
        ("0.40", False),
        ("80.0 %, between 80.0 % and 80.0 %", True),
        ("100.0 % to 70.0 %", False),
        ("90.0 % over 80.0 % on average", True),
        ("90.0 % over 80.0 % on average", True),
    ]
    assert of_the_last(line([*[0.0] * 10, *[1.0] * 10], 1))[-1] == 1
    rising = {"accuracies": [[n / 20] * n for n in range(1, 21)]}
    assert steady(rising) == pytest.approx([n / 20 for n in range(10, 21)])


def test_what_was_measured_is_not_measured_again_and_the_pictures_are_small(mnist, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "load", lambda name, images, seed: tasks.SEQUENCES[name](mnist, images, seed)[:3])
    monkeypatch.setattr(script, "AGAIN", (0, 1))
    places = ["--out", str(tmp_path / "out.jsonl"), "--figures", str(tmp_path / "figures")]
    argv = ["dgdmn", "--images", "8", "--sequences", "digits", "tdigits", "--methods", "NN", "EWC", DGR, DGDMN, *places]
    monkeypatch.setattr(sys, "argv", argv)
    assert script.main() == 0
    table = capsys.readouterr().out
    measured = lines.read(tmp_path / "out.jsonl")
    assert len(measured) == 2 * 4 + 2 + 1 and measured[0]["command"].startswith("make bench-dgdmn ARGS='--images 8")
    assert f"| digits | 8 | {DGDMN} |" in table and "| occlusion | 0.00 |" in table
    pictures = {path.stem: path.stat().st_size for path in (tmp_path / "figures").glob("*.png")}
    names = ("digits", "tdigits", "average", "long", "revision", "robustness")
    assert set(pictures) == {f"dgdmn-{name}" for name in names}
    assert max(pictures.values()) < 100_000
    for name in ("follow", "robustness"):
        monkeypatch.setattr(script, name, None)
    monkeypatch.setattr(script, "draw", lambda figure, path: None)
    assert script.main() == 0
    assert json.dumps(lines.read(tmp_path / "out.jsonl")) == json.dumps(measured)
    assert capsys.readouterr().out == table
    monkeypatch.setattr(sys, "argv", [*argv, "--nap", "1", "--table"])  # is another method, and the others are the same
    assert script.main() == 0
    rested = capsys.readouterr().out
    assert f"| digits | 8 | {DGR} |" in rested and f"| digits | 8 | {DGDMN} |" not in rested
    monkeypatch.setattr(sys, "argv", [*argv, "--seed", "1", "--table"])
    assert script.main() == 0
    assert "digits" not in capsys.readouterr().out


def test_a_nap_is_taken_after_as_many_tasks_as_are_asked_for(mnist, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "load", lambda name, images, seed: tasks.SEQUENCES[name](mnist, images, seed)[:4])
    places = ["--out", str(tmp_path / "out.jsonl"), "--figures", str(tmp_path)]
    asked = ["--only", "accuracy", "--sequences", "digits", "--methods", DGDMN, "--images", "8", "--nap", "3"]
    monkeypatch.setattr(sys, "argv", ["dgdmn", *asked, *places])
    monkeypatch.setattr(script, "draw", lambda figure, path: None)
    assert script.main() == 0
    (line,) = lines.read(tmp_path / "out.jsonl")
    assert [slept is not None for slept in line["awake"]] == [False, False, True, False]
    assert "n_STM = 3" in line["key"] and "--nap 3" in line["command"]


@pytest.mark.parametrize("tasks_held", ["0", "-1"])
def test_a_nap_of_no_tasks_is_refused(tasks_held, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dgdmn", "--nap", tasks_held])
    with pytest.raises(SystemExit):
        script.main()
    assert "--nap: at least 1" in capsys.readouterr().err


def test_without_mnist_it_is_said_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("GENERATIVE_MEMORY_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["dgdmn", "--out", str(tmp_path / "out.jsonl")])
    assert script.main() == 2
    assert "GENERATIVE_MEMORY_DATA" in capsys.readouterr().err
