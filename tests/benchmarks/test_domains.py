"""The domains, tiny: scikit-learn's digits as two tasks on a base of 8 × 8 with random weights."""

import json
import sys

import domains
import pytest
import torch
from harness import lines, schooling

from dgm_core.manifest import DataSpec

pytestmark = pytest.mark.slow  # measurements in miniature take as long as the product's own tests

TINY = ["--steps", "4", "--feature-steps", "3", "--measured", "40", "--images", "20"]


@pytest.fixture
def run(monkeypatch, one_base, tmp_path, capsys):
    """Runs the script; gives its table and the lines of its results."""
    monkeypatch.setattr(
        domains,
        "DOMAINS",
        {"low": domains.Domain("digits", (0, 1, 2)), "high": domains.Domain("digits", (5, 6))},
    )

    def run(*more):
        places = ["--tasks", "low", "high", "--state", str(tmp_path), "--out", str(tmp_path / "out.jsonl")]
        monkeypatch.setattr(sys, "argv", ["domains.py", *TINY, *places, *more])
        assert domains.main() == 0
        return capsys.readouterr().out, lines.read(tmp_path / "out.jsonl")

    return run


def test_every_task_is_measured_by_every_method_and_a_second_run_measures_nothing_anew(run, monkeypatch):
    table, measured = run()
    assert [(line["task"], line["method"]) for line in measured if line["task"] == "low"] == [
        ("low", method) for method in domains.METHODS
    ]
    assert len(measured) == 8
    monkeypatch.setattr(schooling, "taught", None)
    monkeypatch.setattr(domains, "trained_whole", None)
    again, same = run()
    assert again == table
    assert json.dumps(same) == json.dumps(measured)


def test_what_moves_is_told(run):
    _, measured = run()
    by = {(line["task"], line["method"]): line for line in measured}
    assert by["high", "gan_memory"]["earlier"] is by["high", "dgmw"]["earlier"] is True
    assert by["low", "gan_memory"]["earlier"] is None
    assert 0 < by["high", "gan_memory"]["values"] < by["high", "whole base"]["values"]
    assert by["low", "base"]["kernel_distance"] != by["low", "whole base"]["kernel_distance"]


def test_a_base_that_is_trained_whole_starts_as_the_base_and_moves_every_weight(one_base):
    base, spec = one_base.base, DataSpec((1, 8, 8), "uint8")
    digits = schooling.task_data(domains.data.load("digits", 0, 20).train, (3, 4))
    before, _ = domains.trained_whole(base, spec, digits, 0, seed=0)
    after, seconds = domains.trained_whole(base, spec, digits, 2, seed=0)
    z = torch.randn(4, 8)
    same = torch.zeros(4, dtype=torch.long)
    assert torch.equal(before.generate(z, same), before.generate(z, same + 1))
    assert not torch.allclose(after.generate(z, same), after.generate(z, same + 1))
    assert seconds > 0
    moved = zip(before.network.parameters(), after.network.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in moved if old.dim() > 1 and len(old) != 2)
