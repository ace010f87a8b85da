import json
import sys
from pathlib import Path

import pytest
from harness import lines
from sampling import report
from sampling.__main__ import MEASUREMENTS, main
from sampling.bench import Bench, Goal, Row

ROWS = {
    "single": [
        Row("small, served", 9000.0, "images/s", 0.95, "in process", Goal(0.9), {"cpu_us_per_image": 30.1}),
        Row("small, CPU", 36.0, "µs/image", 1.3, "in process", Goal(1.2, most=True)),
        Row("bare", 0.5, "ms"),
    ],
    "compiled": [Row("far ahead", 1.0, "images/s", 250.0, "naive", Goal(3.0))],
}


def test_a_table_says_which_goals_are_held_and_which_are_missed():
    text = report.markdown(ROWS)
    assert "| small, served | 9 000 | images/s | 0.95 | in process | ≥ 0.9: held | cpu_us_per_image 30.1 |" in text
    assert "| small, CPU | 36 | µs/image | 1.30 | in process | ≤ 1.2: MISSED |  |" in text
    assert "| bare | 0.5 | ms |  |  |  |  |" in text


def test_a_line_tells_where_it_comes_from_and_the_last_of_a_point_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["__main__.py", "--only", "single", "--seconds", "1"])
    path = tmp_path / "deep" / "out.jsonl"
    for value in (1.0, 2.0):
        line = report.line("single", Row("served", value, "images/s", 0.5, "x", Goal(0.9)), Bench(tmp_path))
        lines.append(path, line)
    (read,) = lines.read(path)
    assert read["value"] == 2.0 and read["held"] is False and read["hardware"] and read["versions"]
    assert read["command"] == "make bench-sampling ARGS='--only single --seconds 1'"


def test_the_plot_is_drawn_of_the_rows_that_have_ratios(tmp_path):
    report.plot(ROWS, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    report.plot({"single": [ROWS["single"][2]]}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_every_measurement_says_what_it_does():
    for name, measure in MEASUREMENTS.items():
        assert (measure.__doc__ or "").endswith("."), name
    readme = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text()
    assert [name for name in MEASUREMENTS if f"| `{name}` |" not in readme] == []


def test_an_unknown_measurement_is_refused_with_the_known_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sampling", "--only", "sinlge"])
    with pytest.raises(SystemExit):
        main()
    assert "single" in capsys.readouterr().err


def test_what_is_measured_is_in_the_file_and_on_the_screen_as_soon_as_it_is_known(tmp_path, monkeypatch, capsys):
    from sampling import __main__ as program

    def broken(bench):
        """Gives one row, then breaks."""
        yield ROWS["single"][0]
        raise RuntimeError("the server is gone")

    monkeypatch.setitem(MEASUREMENTS, "single", broken)
    with pytest.raises(RuntimeError):
        program.measured(Bench(tmp_path), ["single"], tmp_path / "out")
    assert json.loads((tmp_path / "out.jsonl").read_text())["value"] == 9000.0
    assert "single: Gives one row" in capsys.readouterr().err
