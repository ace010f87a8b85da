"""Compression, tiny: three of scikit-learn's digits on a base of 8 × 8 with random weights."""

import json
import sys

import compression
import pytest
from harness import lines, schooling

from dgm_core.blobs import unpack

pytestmark = pytest.mark.slow  # measurements in miniature take as long as the product's own tests

TINY = ["--dataset", "digits", "--tasks", "3", "--steps", "6", "--feature-steps", "3", "--measured", "40"]


@pytest.fixture
def run(monkeypatch, one_base, tmp_path, capsys):
    """Runs the script; gives its table and the lines of its results."""

    def run(*more):
        places = ["--state", str(tmp_path), "--out", str(tmp_path / "out.jsonl")]
        monkeypatch.setattr(sys, "argv", ["compression.py", *TINY, *places, *more])
        assert compression.main() == 0
        return capsys.readouterr().out, lines.read(tmp_path / "out.jsonl")

    return run


def test_low_rank_is_measured_against_every_statistic(run, one_base, monkeypatch):
    table, measured = run()
    by = {(line["task"], line["styles"]): line for line in measured}
    assert len(by) == 9
    rows, columns = one_base.base.generator["body.1.weight"].shape[:2]  # the only one between the first and the last
    naive = 2 * rows * columns
    for task in ("t0", "t1", "t2"):
        assert by[task, "full"]["matrices"] == naive
        vectors = by[task, "full"]["values"] - naive
        assert by[task, "lowrank"]["values"] == by[task, "lowrank"]["matrices"] + vectors
    assert by["t0", "lowrank"]["kernel_distance"] == by["t0", "shared"]["kernel_distance"]
    assert all(line["earlier"] for line in measured if line["task"] != "t0")
    assert table.count("| full | 100.0 % | 100.0 % |") == 3
    monkeypatch.setattr(schooling, "taught", None)
    again, same = run()
    assert again == table
    assert json.dumps(same) == json.dumps(measured)


def test_what_is_shared_may_start_from_the_nearest_task_and_full_never_does(run, tmp_path):
    _, measured = run("--styles", "full", "shared", "--start", "nearest")
    assert len(measured) == 6 and all(line["earlier"] for line in measured if line["task"] != "t0")

    def starts(styles):
        (folder,) = tmp_path.glob(f"digits-{styles}-*")
        return [unpack(path.read_bytes())[1]["start"] for path in sorted(folder.glob("*.safetensors"))]

    assert starts("full") == [None, None, None]
    assert starts("shared")[:2] == [None, "t0"] and starts("shared")[2] in ("t0", "t1")


def test_without_full_there_is_nothing_to_compare_with(run):
    table, measured = run("--styles", "lowrank", "--tasks", "1")
    assert [line["styles"] for line in measured] == ["lowrank"]
    assert "| t0 | 0 | lowrank | – | – |" in table
