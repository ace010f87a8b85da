import sys

import torch
from harness import lines, tables

ABOUT = {
    "run": "r1",
    "dataset": "mnist",
    "kind": "dgmw",
    "options": {"width": "8"},
    "seed": 1,
    "tasks_of": 1,
    "date": "2026-01-02",
    "command": "python benchmarks/continual.py",
    "hardware": "a core",
    "versions": {"torch": "2"},
}


def accuracy(row, score, run="r1"):
    fields = {"what": "accuracy", "key": ["t4", row], "task": "t4", "classes": 5, "row": row, "accuracy": score}
    return {**ABOUT, **fields, "run": run}


def test_the_rows_of_one_run_stand_beside_each_other():
    text = tables.markdown(
        [accuracy(tables.MEMORY, 0.98), accuracy(tables.JOINT, 0.99), accuracy(tables.MEMORY, 0.5, "r2")]
    )
    assert "| mnist | dgmw width=8 | 1 | t4 | 5 | 98.00 | – | – | 99.00 | – | 98.99 | 2026-01-02 |" in text
    assert "| mnist | dgmw width=8 | 1 | t4 | 5 | 50.00 | – | – | – | – | – | 2026-01-02 |" in text


def test_learning_and_classes_have_tables_of_their_own_in_which_changed_bytes_stand_out():
    split = {"generator": 3.0, "solver": 1.0}
    learning = {
        "what": "learning",
        "key": ["t4", ""],
        "task": "t4",
        "new_classes": [4],
        "examples": 9,
        "steps_taken": 20,
    }
    learning |= {"learn_seconds": 5.4, "split": split, "quality": 0.9, "bytes": 1000}
    then = {"reverse_accuracy": 0.9, "kernel_distance": 0.1, "standard_error": 0.01, "coverage": 0.5, "density": 1.0}
    label = {"what": "class", "key": ["t4", 4], "task": "t4", "label": 4, "among_all": 0.8, "after": 5}
    label |= {"then": {**then, "digest": "a"}, "now": {**then, "digest": "a"}}
    later = {**label, "then": {**then, "digest": "a"}, "now": {**then, "digest": "b"}, "after": 6}
    text = tables.markdown([{**ABOUT, **learning}, {**ABOUT, **label}, {**ABOUT, **later}])
    assert "| t4 | 4 | 9 | 20 | 5 | – | 3.0 | – | 1.0 | – | 0.9000 | 1000 |" in text
    assert (
        "| 4 | t4 | 90.00 | 90.00 | 80.00 | 0.1000 ± 0.0100 | 0.1000 ± 0.0100 | 0.500 | 0.500 | 1.000 | **NO** |"
        in text
    )
    assert "| yes |" not in text  # what stood between the tasks is no row of this table


def test_the_last_line_on_the_same_thing_counts(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    for score in (0.1, 0.2):
        lines.append(path, accuracy(tables.MEMORY, score))
    assert [line["accuracy"] for line in lines.read(path)] == [0.2]
    assert lines.read(tmp_path / "none.jsonl") == []


def test_a_line_is_found_by_all_that_it_must_have(tmp_path):
    path = tmp_path / "results.jsonl"
    lines.append(path, accuracy(tables.JOINT, 0.99))
    assert lines.with_all(path, {"row": tables.JOINT, "seed": 1})["accuracy"] == 0.99
    assert lines.with_all(path, {"row": tables.JOINT, "seed": 2}) is None
    assert lines.with_all(path, {"row": tables.JOINT, "more": None}) is None


def test_the_command_of_a_line_leaves_out_where_things_are_kept(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x/continual.py", "--state", "s", "--seed", "1", "--out=o", "--kind", "dgma"])
    about = lines.origin(torch.device("cpu"))
    assert about["command"] == "python benchmarks/continual.py --seed 1 --kind dgma"
    assert "core" in about["hardware"] and set(about["versions"]) == {"python", "torch", "numpy"}
