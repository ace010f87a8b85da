import sys

import style_step


def test_a_step_of_a_shipped_base_is_measured_with_what_it_takes(monkeypatch, capsys):
    argv = ["style_step.py", "--networks", "grey", "--steps", "1", "--batch", "2"]
    monkeypatch.setattr(sys, "argv", argv)
    style_step.main()
    row = capsys.readouterr().out.splitlines()[-1]
    assert "1 × 32 × 32" in row and "dcgan" in row and "| 2 |" in row
    seconds, megabytes = (float(cell) for cell in row.strip("| ").split("|")[-2:])
    assert seconds > 0 and megabytes > 50


def test_the_large_base_is_the_published_one():
    base = style_step.published(style_step.SPECS["256"][0])
    assert base.design.network == "gpgan" and base.design.noise == 256
    assert 45e6 < base.parameters < 60e6, "Cong et al. 2020: 52.2 million weights"
