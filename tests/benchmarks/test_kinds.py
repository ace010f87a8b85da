"""The table of all kinds: which commands it consists of, and what becomes of their statuses."""

import json
import os
import sys
from types import SimpleNamespace

import kinds
import pytest
from harness import lines

from dgm_core.memories import KINDS


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the script with commands that end with the given statuses; gives its own and the commands."""

    def run(*arguments, statuses=()):
        commands, left = [], iter(statuses)

        def statuses(wanted, lanes):
            for command in wanted:
                commands.append(command)
                yield next(left, 0)

        monkeypatch.setattr(kinds, "statuses", statuses)
        places = ["--state", str(tmp_path / "state"), "--out", str(tmp_path / "out.jsonl")]
        monkeypatch.setattr(sys, "argv", ["kinds.py", *places, *arguments])
        return kinds.main(), commands

    return run


CORES = os.sched_getaffinity(0)


def after(command, name):
    """The last value of an option."""
    return command[len(command) - command[::-1].index(name)]


def test_every_registered_kind_is_taught_in_a_folder_of_its_own_and_measured_in_one_space(run, tmp_path):
    status, commands = run()
    assert status == 0
    assert [after(command, "--kind") for command in commands] == list(KINDS)
    assert [after(command, "--state") for command in commands] == [str(tmp_path / "state" / kind) for kind in KINDS]
    assert {after(command, "--features") for command in commands} == {str(tmp_path / "state")}
    assert all("--every-task" in command and after(command, "--seconds") == "130.0" for command in commands)


def test_what_a_cpu_is_spared_a_gpu_computes_and_the_command_line_has_the_last_word(run):
    _, (command, *_) = run("--device", "cuda")
    assert not {"--seconds", "--steps", "--measured", "--classifier-steps"} & set(command)
    _, (command, *_) = run("--steps", "7", "--measured", "9", "--dataset", "digits")
    assert "--seconds" not in command
    assert (after(command, "--steps"), after(command, "--measured"), after(command, "--dataset")) == (
        "7",
        "9",
        "digits",
    )


def test_a_kind_is_taught_with_the_options_that_follow_its_name(run):
    _, commands = run("--kinds", "dgmw", "dgma:width=4,recipe=paper")
    assert [after(command, "--kind") for command in commands] == ["dgmw", "dgma"]
    place = commands[1].index("--options")
    assert commands[1][place + 1 : place + 3] == ["width=4", "recipe=paper"] and "--options" not in commands[0]
    with pytest.raises(SystemExit):
        run("--kinds", "dgmx")


def test_bytes_that_moved_fail_the_whole_and_the_other_kinds_are_taught_all_the_same(run):
    assert run("--kinds", "dgmw", "dgma", statuses=(1, 0))[0] == 1
    status, commands = run("--kinds", "dgmw", "dgma", statuses=(2, 0))
    assert status == 2 and len(commands) == 1


def test_time_that_is_up_ends_with_a_status_that_asks_for_the_same_command_again(run):
    status, (command,) = run("--kinds", "dgmw", "dgma", "--stop-after-seconds", "100", statuses=(3,))
    assert status == 3 and 0 < float(after(command, "--stop-after-seconds")) <= 100
    assert run("--stop-after-seconds", "0") == (3, [])


def test_whoever_is_stopped_lets_its_command_stop_what_that_has_started(tmp_path, monkeypatch):
    tidy = """if True:
        import pathlib, signal, sys, time
        def stop(*_):
            pathlib.Path(sys.argv[1], "tidy").touch()
            sys.exit()
        signal.signal(signal.SIGTERM, stop)
        pathlib.Path(sys.argv[1], "ready").touch()
        time.sleep(100)"""

    def interrupted(seconds):
        if len(list(tmp_path.glob("*/ready"))) == 2:
            raise KeyboardInterrupt

    homes = [tmp_path / "a", tmp_path / "b"]
    for home in homes:
        home.mkdir()
    monkeypatch.setattr(kinds, "time", SimpleNamespace(sleep=interrupted))
    with pytest.raises(KeyboardInterrupt):
        list(kinds.statuses(iter([sys.executable, "-c", tidy, str(home)] for home in homes), [CORES, CORES]))
    assert all((home / "tidy").exists() for home in homes)


def test_commands_run_side_by_side_on_their_cores_and_the_next_takes_the_place_of_one_that_ended(tmp_path):
    meeting = """if True:
        import os, pathlib, sys, time
        folder, mine, other, core = pathlib.Path(sys.argv[1]), *sys.argv[2:]
        while os.sched_getaffinity(0) != {int(core)} and other != "nobody":
            time.sleep(0.01)
        (folder / mine).touch()
        while other != "nobody" and not (folder / other).exists():
            time.sleep(0.01)
        sys.exit(7 if mine == "b" else 0)"""
    lanes = [{min(CORES)}, {max(CORES)}]
    pairs = [("a", "b", min(CORES)), ("b", "a", max(CORES)), ("c", "nobody", 0)]
    commands = [[sys.executable, "-c", meeting, str(tmp_path), mine, who, str(core)] for mine, who, core in pairs]
    assert sorted(kinds.statuses(iter(commands), lanes)) == [0, 0, 7]
    assert (tmp_path / "c").exists()


def test_all_cores_are_shared_out_on_a_cpu_and_one_kind_follows_the_other_on_a_gpu(run, monkeypatch):
    monkeypatch.setattr(kinds.os, "sched_getaffinity", lambda _: set(range(8)))
    assert {after(command, "--threads") for command in run("--kinds", "dgmw", "dgma", "dual")[1]} == {"2"}
    assert "--threads" not in run("--kinds", "dgmw", "dgma", "--side-by-side", "1")[1][0]
    assert "--threads" not in run("--kinds", "dgmw", "dgma", "--device", "cuda")[1][0]


def test_a_table_alone_teaches_nothing(run, tmp_path, capsys):
    assert run("--table") == (0, []) and capsys.readouterr().out == ""
    assert not (tmp_path / "out.png").exists()


@pytest.mark.slow  # like all that need a whole run
def test_a_kind_that_freezes_what_it_holds_has_a_flat_curve_and_one_that_sleeps_may_move_it(
    monkeypatch, tmp_path, capsys
):
    tiny = ["--dataset", "digits", "--tasks", "3", "--steps", "10", "--images", "40", "--classifier-steps", "5"]
    tiny += ["--measured", "20", "--threads", "1", "--kinds", "dgmw:width=4", "dual:width=4,short_term=2"]
    places = ["--state", str(tmp_path / "state"), "--out", str(tmp_path / "out.jsonl")]
    monkeypatch.setattr(sys, "argv", ["kinds.py", *tiny, *places])
    assert kinds.main() == 0
    out = capsys.readouterr().out
    assert "| dgmw width=4 | 0 | – | – |" in out and "| yes: 3 of 3 |" in out
    assert "| dual short_term=2 width=4 | 0 | – | – |" in out and "| no: 1 of 3 |" in out
    known = lines.read(tmp_path / "out.jsonl")
    told = {
        kind: [json.dumps(line["now"]) for line in known if line["kind"] == kind and line.get("label") == 0]
        for kind in ("dgmw", "dual")
    }
    assert len(told["dgmw"]) == 3 and len(set(told["dgmw"])) == 1
    assert len(set(told["dual"])) == 2  # it slept once
    assert [line["task"] for line in known if line["what"] == "sleep"] == ["t1"]
    assert (tmp_path / "out.png").stat().st_size > 10_000
