import pytest
from harness import comparison, drift

ABOUT = {
    "run": "r1",
    "kind": "mergan",
    "options": {"replay": "joint"},
    "seed": 3,
    "date": "2026-01-02",
    "command": "python benchmarks/continual.py",
    "hardware": "a core",
    "versions": {"torch": "2"},
    "exact": False,
}
SOLVED = {0: [1.0, 0.7, 0.8], 1: [0.9, 0.95], 2: [0.99]}  # of each class, after its own and every later task
REVERSE = {0: [1.0, 0.2, 0.1], 1: [0.8, 0.6], 2: [0.7]}
BYTES = {0: "aab", 1: "aa", 2: "a"}
DISTANCES = {0: [0.1, 0.3, 0.2], 1: [0.1, 0.1], 2: [0.0]}


def told(**other):
    about = {**ABOUT, **other}
    learned = [
        {**about, "what": "learning", "learn_seconds": 30.0 * task, "quality": 0.9 + 0.05 * task, "bytes": size}
        | {"steps_taken": 100 + task}
        for task, size in enumerate((100, 160, 200))
    ]
    learned.append({**about, "what": "sleep", "sleep_seconds": 90.0, "bytes": 240})
    scores = [
        {**about, "what": "accuracy", "row": row, "classes": n, "accuracy": score}
        for row, n, score in (("memory", 5, 0.99), ("memory", 10, 0.968), ("joint", 10, 0.995))
    ]
    return learned + scores + [each for label in SOLVED for each in histories(about, label)]


def histories(about, label):
    for step, solved in enumerate(SOLVED[label]):
        now = {"reverse_accuracy": REVERSE[label][step], "kernel_distance": DISTANCES[label][step]}
        now |= {"standard_error": 0.01, "digest": BYTES[label][step]}
        line = {"what": "class", "label": label, "after": label + step + 1, "solver": solved}
        yield {**about, **line, "now": now, "then": {"digest": "a"}}


def test_a_row_tells_what_a_kind_is_worth_what_it_forgets_and_what_it_costs():
    text = comparison.markdown(told())
    row = "| mergan replay=joint | 3 | 99.00 | 96.80 | 10.00 | 20.00 | 95.00 | 101 | 3.0 | 80 | 2.40 | no: 2 of 3 |"
    assert row in text
    assert "Joint training on all real data: A5 –, A10 99.50." in text
    assert "- mergan replay=joint: `python benchmarks/continual.py`, 2026-01-02; a core; torch 2" in text


def test_forgetting_is_the_best_less_the_last_of_every_class_but_the_newest():
    lines = told()
    assert comparison.forgetting(lines, lambda line: line["solver"]) == pytest.approx((0.2 + 0.0) / 2)
    of_samples = comparison.forgetting(lines, lambda line: line["now"]["reverse_accuracy"], fewest=2)
    assert of_samples == pytest.approx(0.2)
    once = [line for line in lines if line.get("after") == 3]
    assert comparison.forgetting(once, lambda line: line["solver"]) is None


def test_bytes_that_moved_stand_out_where_the_kind_promises_that_they_do_not():
    assert comparison.unchanged(told()) == (2, 3)
    assert "| **NO**: 2 of 3 |" in comparison.markdown(told(exact=True))


def test_every_run_has_a_row_and_one_that_has_just_begun_has_none():
    begun = [line for line in told(run="r3") if line["what"] == "learning"]
    text = comparison.markdown([*told(), *told(run="r2", kind="dgr", options={}), *begun])
    assert text.count("| 95.00 |") == 2 and "| dgr | 3 |" in text
    assert comparison.markdown(begun) == comparison.markdown([]) == ""


def test_the_drift_of_the_first_class_is_drawn_for_every_run_that_has_one(tmp_path):
    assert drift.points(told()) == [(1, 0.1, 0.01), (2, 0.3, 0.01), (3, 0.2, 0.01)]
    drift.plot([*told(), *told(run="r2", kind="dgmw", exact=True)], tmp_path / "drift.png")
    assert (tmp_path / "drift.png").stat().st_size > 10_000
    drift.plot([line for line in told() if line.get("after") == 1], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
