"""The ablation of styles, tiny: two of scikit-learn's digits on a base of 8 × 8 with random weights."""

import sys

import pytest
import style_ablation
import torch
from domains import Domain
from harness import lines, schooling
from harness.data import load

from dgm_core.manifest import DataSpec

pytestmark = pytest.mark.slow  # measurements in miniature take as long as the product's own tests

SPEC = DataSpec((1, 8, 8), "uint8")


def students(steps):
    real = schooling.task_data(load("digits", 0, 20).train, (3, 4))
    return {
        name: style_ablation.trained(SPEC, real, variant, steps, seed=0)[0]
        for name, variant in style_ablation.VARIANTS.items()
    }


def test_without_bias_the_biases_stay_those_of_the_base(one_base):
    base = {name: t for name, t in one_base.base.generator.items() if "embedding" not in name}
    moved = {
        name: [k for k, p in student.network.named_parameters() if k in base and not torch.equal(p, base[k])]
        for name, student in students(steps=3).items()
    }
    assert {"norms.0.weight", "norms.0.bias"} <= set(moved["full"])
    assert moved["no bias"] == []


def test_every_variant_learns_something_of_its_own(one_base):
    z, c = torch.randn(3, 8), torch.zeros(3, dtype=torch.long)
    images = [student.generate(z, c) for student in students(steps=3).values()]
    assert not any(torch.allclose(a, b) for a, b in zip(images, images[1:] + images[:1], strict=True))


@pytest.mark.usefixtures("one_base")
def test_a_second_run_measures_nothing_anew(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(style_ablation, "DOMAINS", {"digits": Domain("digits", (3, 4))})
    places = ["--state", str(tmp_path), "--out", str(tmp_path / "out.jsonl")]
    few = ["--steps", "2", "4", "--feature-steps", "3", "--measured", "40", "--images", "20"]
    monkeypatch.setattr(sys, "argv", ["style_ablation.py", *few, *places])
    assert style_ablation.main() == 0
    table = capsys.readouterr().out
    assert table.startswith("| kernel distance, digits | 2 steps | 4 steps |")
    assert len(lines.read(tmp_path / "out.jsonl")) == 6
    monkeypatch.setattr(style_ablation, "trained", None)
    assert style_ablation.main() == 0
    assert capsys.readouterr().out == table
