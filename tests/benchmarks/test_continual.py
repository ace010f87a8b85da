"""The main table, tiny: scikit-learn's digits, two tasks of one class, a few steps."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import continual
import pytest
from harness import lines
from harness.data import load
from harness.folder import RunFolder
from rich.console import Console

from dgm_core.memories.dgmw import DGMw

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "continual.py"
TINY = ["--dataset", "digits", "--tasks", "2", "--steps", "10", "--images", "40", "--classifier-steps", "5"]
TINY += ["--measured", "20", "--options", "width=4", "--threads", "1"]
MOMENTS = {"learn_seconds", "split", "classify_seconds", "run", "date", "command"}


def start(folder, *more, **environment):
    command = [sys.executable, str(SCRIPT), *TINY, "--state", str(folder), "--out", str(folder / "out.jsonl"), *more]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(folder, *more, **environment):
    process = start(folder, *more, **environment)
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def journal(folder):
    path = folder / "journal.json"
    return json.loads(path.read_text()) if path.exists() else {"done": {}, "run": None}


def results(folder):
    """Everything but what depends on the moment."""
    return [
        {name: value for name, value in line.items() if name not in MOMENTS}
        for line in lines.read(folder / "out.jsonl")
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, finish(folder)


@pytest.mark.slow  # like all that need a whole run
def test_a_run_prints_its_tables_and_finds_that_nothing_moved(uninterrupted):
    folder, (status, out, err) = uninterrupted
    assert status == 0, err
    assert "no figure of any class and no byte of its samples has moved" in err.replace("\n", " ")
    assert "| digits | dgmw width=4 | 0 | t1 | 2 |" in out
    assert out.count("| yes |") == 2
    whats = [line["what"] for line in results(folder)]
    assert [whats.count(what) for what in ("learning", "accuracy", "class")] == [2, 3, 2]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_gives_the_table_of_one_that_was_not(uninterrupted, tmp_path):
    process = start(tmp_path)
    deadline = time.monotonic() + 120
    while "learn/t0" not in journal(tmp_path)["done"]:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)  # which leaves its server running
    process.communicate()
    before = journal(tmp_path)
    status, _, err = finish(tmp_path)
    assert status == 0, err
    after = journal(tmp_path)
    assert after["run"] == before["run"]
    assert {key: after["done"][key] for key in before["done"]} == before["done"]
    assert [line["task"] for line in results(tmp_path) if line["what"] == "learning"] == ["t0", "t1"]
    assert sorted(map(json.dumps, results(tmp_path))) == sorted(map(json.dumps, results(uninterrupted[0])))


@pytest.mark.slow
def test_rows_that_were_left_out_are_measured_by_a_later_command(tmp_path):
    first, _, err = finish(tmp_path, "--rows", "memory")
    assert first == 0, err
    assert [line["row"] for line in results(tmp_path) if line["what"] == "accuracy"] == ["memory"]
    second, _, err = finish(tmp_path)
    assert second == 0, err
    rows = [line["row"] for line in results(tmp_path) if line["what"] == "accuracy"]
    assert rows == ["memory", "joint", "newest real only"]


@pytest.mark.slow  # like all that need a whole run
def test_a_figure_that_moved_is_a_failure_that_names_the_class(uninterrupted, tmp_path, monkeypatch, capsys):
    state = journal(uninterrupted[0])
    state["done"] = {key: value for key, value in state["done"].items() if not key.startswith("line/")}
    state["done"]["measure-again/2/0"]["same"]["digest"] = "other bytes"
    (tmp_path / "journal.json").write_text(json.dumps(state))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *TINY, "--state", str(tmp_path), "--out", str(tmp_path / "out")])
    wish = continual.arguments()

    def status():
        with RunFolder(tmp_path, state["wish"]) as folder:
            run = continual.Run(wish, load("digits", 0, wish.images), folder, memory=None, console=Console(stderr=True))
            return run.whole()

    assert status() == 1
    out, err = capsys.readouterr()
    assert "FAILED class 0 after 2 classes: the bytes of its seeded samples" in err.replace("\n", " ")
    assert out.count("**NO**") == 1 and out.count("| yes |") == 1
    monkeypatch.setattr(DGMw, "exact", False)
    assert status() == 0
    assert "dgmw retrains what it holds: 1 figures of classes have moved" in capsys.readouterr().err.replace("\n", " ")


def test_data_that_is_not_there_is_asked_for_before_anything_is_started(tmp_path):
    status, _, err = finish(tmp_path / "state", "--dataset", "mnist", GENERATIVE_MEMORY_DATA=str(tmp_path))
    assert status == 2
    assert "does not hold what is needed: mnist/ with the four IDX files" in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not (tmp_path / "state").exists()
