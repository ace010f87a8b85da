import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.folder import NotThisRun, OutOfTime, RunFolder, stop_server_left_behind

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WISH = {"kind": "dgmw", "seed": 0, "options": {"width": "4"}}


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds

    def takes(self, seconds, value=None):
        """A piece of work."""

        def work():
            self.seconds += seconds
            return value

        return work


def never():
    raise AssertionError("this was done before")


def test_a_piece_of_work_is_done_once_whatever_process_asks(tmp_path):
    with RunFolder(tmp_path, WISH) as folder:
        assert folder.once("learn/t0", lambda: {"classes": (0, 1)}) == {"classes": [0, 1]}
        name = folder.run
    with RunFolder(tmp_path, WISH) as folder:
        assert folder.once("learn/t0", never) == {"classes": [0, 1]}
        assert folder.result("learn/t0") == {"classes": [0, 1]}
        assert folder.run == name


def test_work_that_fails_is_not_recorded(tmp_path):
    with RunFolder(tmp_path, WISH) as folder, pytest.raises(AssertionError):
        folder.once("learn/t0", never)
    with RunFolder(tmp_path, WISH) as folder, pytest.raises(KeyError):
        folder.result("learn/t0")


def test_nothing_is_begun_that_would_probably_end_too_late(tmp_path):
    clock = Clock()
    with RunFolder(tmp_path, WISH, seconds=150, now=clock) as folder:
        folder.once("learn/t0", clock.takes(40))
        folder.once("learn/t1", clock.takes(35))  # 40 + 1.15 * 40 + ENDING are fewer than 150
        with pytest.raises(OutOfTime, match=r"learn/t2: 75 of 150 s have passed and it may take 40 s"):
            folder.once("learn/t2", never)
        folder.once("line/t1", clock.takes(0), quick=True)


def test_the_first_piece_of_a_kind_is_expected_to_take_a_third_of_the_time_or_as_long_as_any_did(tmp_path):
    clock = Clock()
    with RunFolder(tmp_path, WISH, seconds=450, now=clock) as folder:
        folder.once("features", clock.takes(100))
        folder.once("learn/t0", clock.takes(160))
        with pytest.raises(OutOfTime, match=r"classify/t0: 260 of 450 s have passed and it may take 160 s"):
            folder.once("classify/t0", never)
    clock.seconds = 0.0  # of the next call
    with RunFolder(tmp_path, WISH, seconds=600, now=clock) as folder:
        folder.once("classify/t0", clock.takes(360))
        with pytest.raises(OutOfTime, match=r"measure/0: 360 of 600 s have passed and it may take 360 s"):
            folder.once("measure/0", never)
    clock.seconds = 0.0
    with RunFolder(tmp_path / "short", WISH, seconds=450, now=clock) as folder:
        folder.once("features", clock.takes(10))
        clock.seconds = 250.0
        with pytest.raises(OutOfTime, match="may take 150 s"):
            folder.once("learn/t0", never)


def test_what_a_call_did_before_it_opened_the_folder_counts(tmp_path):
    clock = Clock()
    clock.seconds = 80.0
    with RunFolder(tmp_path, WISH, seconds=110, now=clock) as folder:
        folder.once("learn/t0", clock.takes(1))
        with pytest.raises(OutOfTime, match="81 of 110 s have passed"):
            folder.once("learn/t1", never)


def test_time_counts_from_the_start_of_the_process():
    late = "import time; time.sleep(1); from harness.folder import process_seconds; print(process_seconds())"
    started = time.monotonic()
    said = subprocess.run([sys.executable, "-c", late], stdout=subprocess.PIPE, text=True, check=True, cwd=BENCHMARKS)
    assert 1 <= float(said.stdout) <= time.monotonic() - started + 0.1


def test_every_call_gets_one_piece_done_or_a_run_would_never_end(tmp_path):
    clock = Clock()
    for piece in range(3):
        with RunFolder(tmp_path, WISH, seconds=1, now=clock) as folder:
            for earlier in range(piece):
                folder.once(f"learn/t{earlier}", never)
            folder.once(f"learn/t{piece}", clock.takes(50))
            with pytest.raises(OutOfTime):
                folder.once(f"learn/t{piece + 1}", never)


def test_a_folder_is_not_continued_with_other_arguments(tmp_path):
    with RunFolder(tmp_path, WISH) as folder:
        folder.once("learn/t0", lambda: None)
    with pytest.raises(NotThisRun, match="begun with seed 0 instead of 1; give the same arguments"):
        RunFolder(tmp_path, {**WISH, "seed": 1})


def test_two_processes_do_not_share_a_folder(tmp_path):
    with RunFolder(tmp_path, WISH), pytest.raises(NotThisRun, match="another process uses"):
        RunFolder(tmp_path, WISH)


def test_a_journal_that_was_being_written_when_the_run_was_killed_is_the_old_one(tmp_path):
    with RunFolder(tmp_path, WISH) as folder:
        folder.once("learn/t0", lambda: 1)
    (tmp_path / "journal.new").write_text('{"run": "cut o')
    with RunFolder(tmp_path, WISH) as folder:
        assert folder.once("learn/t0", never) == 1
        folder.once("learn/t1", lambda: 2)
    assert json.loads((tmp_path / "journal.json").read_text())["done"] == {"learn/t0": 1, "learn/t1": 2}


HOLDER = """
import fcntl, os, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(f"{os.getpid()}\\n")
file.flush()
print("held", flush=True)
time.sleep(600)
"""


def test_a_server_that_a_killed_run_left_behind_is_stopped(tmp_path):
    lock = tmp_path / "LOCK"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        stop_server_left_behind(lock)
        assert holder.wait(10) != 0


def test_a_server_that_has_gone_leaves_nothing_to_stop(tmp_path):
    stop_server_left_behind(tmp_path / "LOCK")
    (tmp_path / "LOCK").write_text("1\n")  # the number of a process that is not ours to stop
    stop_server_left_behind(tmp_path / "LOCK")
