"""memoryctl: what it prints, where, and with which exit status."""

import gzip
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory
from memory_client.cli import session
from memory_client.cli.app import app
from memory_client.cli.group import hoisted
from PIL import Image
from typer.testing import CliRunner

from memory_server.__main__ import application

MEMORYCTL = [sys.executable, "-m", "memory_client.cli"]


@pytest.fixture
def ctl(server):
    """Runs a command line against the server; gives exit status, standard output and error."""

    def invoke(*arguments: str, answer: str = "") -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [*arguments, "--target", server.target, "-m", "digits"], input=answer)
        return done.exit_code, done.stdout, done.stderr

    return invoke


@pytest.fixture
def npz(tmp_path) -> Path:
    path = tmp_path / "digits.npz"
    np.savez(path, x=np.zeros((9, 1, 2, 2), np.uint8), y=[0, 1, 2] * 3)
    return path


def test_learning_prints_how_it_ended(ctl, npz, service):
    status, out, err = ctl("learn", str(npz), "--task", "t7", "--steps", "5", "--min-quality", "0.5")

    assert (status, err) == (0, "")
    assert out == "t7: LEARNED in 1.5 s, quality 0.960\n"
    header = service.lessons["t7"].header
    assert (header.steps, header.min_quality, header.HasField("seconds")) == (5, 0.5, False)


def test_learning_without_waiting_says_how_to_follow(ctl, npz):
    status, out, _ = ctl("learn", str(npz), "--no-wait")

    assert status == 0
    assert "memoryctl watch t0 -m digits" in out


def test_a_class_filter_keeps_the_named_classes(ctl, npz, service):
    ctl("learn", str(npz), "--class-filter", "0,2")

    assert service.lessons["t0"].labels == [0, 2] * 3


@pytest.mark.parametrize("text", ["", ",", " , "])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("learn {npz}", "--class-filter"),
        ("sample --out {out}", "--classes"),
        ("interpolate a b --out {out}", "--groups"),
        ("interpolate a b --out {out}", "--layers"),
        ("interpolate a b --out {out}", "--weights"),
    ],
)
def test_a_selection_that_names_nothing_is_misuse(ctl, taught, npz, tmp_path, service, command, option, text):
    called = len(service.requests)

    status, out, err = ctl(*command.format(npz=npz, out=tmp_path / "s.npz").split(), option, text)

    assert (status, out, len(service.requests)) == (2, "", called)
    assert option in err


def test_options_reach_the_memory_and_bad_ones_are_misuse(ctl, npz, service):
    assert ctl("learn", str(npz), "--kind", "dgmw", "--option", "seed=3")[0] == 0
    assert dict(service.lessons["t0"].header.options) == {"seed": "3"}
    assert ctl("learn", str(npz), "--option", "seed")[0] == 2


def test_learning_from_idx_files(ctl, tmp_path, service):
    images, labels = tmp_path / "images.gz", tmp_path / "labels"
    pixels = np.arange(3 * 2 * 2, dtype=np.uint8)
    images.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 3, 2, 2) + pixels.tobytes()))
    labels.write_bytes(struct.pack(">2I", 0x801, 3) + bytes([5, 6, 5]))

    assert ctl("learn", "--images", str(images), "--labels", str(labels))[0] == 0
    assert service.lessons["t0"].x == pixels.tobytes()
    assert service.lessons["t0"].labels == [5, 6, 5]
    assert list(service.lessons["t0"].header.spec.shape) == [1, 2, 2]


def test_learning_from_a_folder_of_images(ctl, tmp_path, service):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (4, 6), (255, 0, 9)).save(tmp_path / "pets" / name / "1.png")

    assert ctl("learn", str(tmp_path / "pets"), "--size", "8")[0] == 0
    assert service.lessons["t0"].labels == ["cat", "dog"]
    assert list(service.lessons["t0"].header.spec.shape) == [3, 8, 8]


@pytest.mark.parametrize(
    "arguments",
    [
        ["learn"],
        ["learn", "no-such-file.npz"],
        ["learn", __file__],
        ["learn", __file__, "--images", __file__],
        ["sample"],
        ["sample", "--out", "samples.csv"],
        ["sample", "--out", "samples.npz", "--size", "32"],
        ["sample", "--out", "samples.npz", "--size", "32xwide"],
        ["no-such-command"],
    ],
)
def test_misuse_is_told_with_status_2(ctl, arguments):
    status, out, err = ctl(*arguments)

    assert (status, out) == (2, "")
    assert "Traceback" not in err


def test_an_error_is_one_line_with_status_1(ctl):
    status, out, err = ctl("classes")

    assert (status, out) == (1, "")
    assert err == (
        "error: there is no memory 'digits'; there are none yet. The first learn_task on a name creates its memory\n"
    )


def test_sampling_writes_arrays_and_a_picture(ctl, taught, tmp_path):
    out, grid = tmp_path / "s.npz", tmp_path / "s.png"

    status, text, _ = ctl(
        "sample", "--classes", "0,1", "--n", "10", "--seed", "3", "--out", str(out), "--grid", str(grid)
    )

    assert status == 0
    assert "10 examples of 2 classes" in text
    with np.load(out) as arrays:
        assert arrays["x"].shape == (10, 1, 2, 2)
        assert sorted(set(arrays["y"].tolist())) == [0, 1]
    with Image.open(grid) as image:
        assert image.height > 2 * 50


def test_the_format_of_samples_reaches_the_memory(ctl, taught, tmp_path, service):
    status, _, err = ctl(
        "sample", "--size", "16x12", "--dtype", "float32", "--layout", "NHWC", "--out", str(tmp_path / "s.npz")
    )
    assert status == 0, err
    assert service.requests[-1].format == pb.Format(dtype=pb.FLOAT32, layout=pb.NHWC, height=16, width=12)


def test_a_picture_is_the_same_whatever_layout_the_arrays_have(ctl, taught, tmp_path, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)

    def sample(*_, layout, **__):
        return (np.moveaxis(x, 1, 3) if layout == "NHWC" else x), np.arange(4)

    monkeypatch.setattr(Memory, "sample", sample)
    drawn = []
    for layout in ((), ("--layout", "NCHW"), ("--layout", "NHWC")):
        assert ctl("sample", *layout, "--grid", str(tmp_path / "grid.png"))[0] == 0
        drawn.append((tmp_path / "grid.png").read_bytes())
    assert drawn[0] == drawn[1] == drawn[2]


def test_reduced_precision_reaches_the_memory(ctl, taught, tmp_path, service):
    for asked, precision in (((), pb.FULL), (("--reduced",), pb.REDUCED)):
        status, _, err = ctl("sample", *asked, "--out", str(tmp_path / "s.npz"))
        assert status == 0, err
        assert service.requests[-1].precision == precision


def test_sampling_a_class_that_is_not_there_lists_the_known_ones(ctl, taught, tmp_path):
    status, _, err = ctl("sample", "--classes", "0,9", "--out", str(tmp_path / "s.npz"))

    assert status == 1
    assert "'9'" in err
    assert "0, 1, 2" in err


def test_json_is_for_programs(ctl, taught, tmp_path):
    def parsed(*arguments: str):
        status, out, err = ctl(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    assert parsed("classes") == [0, 1, 2]
    assert parsed("describe")["kind"] == "dgmw"
    assert parsed("memories")[0]["name"] == "digits"
    assert parsed("tasks")[0]["state"] == "LEARNED"
    assert parsed("watch", "t0")["quality"] == 0.96
    assert parsed("sample", "--n", "6", "--out", str(tmp_path / "s.npz"))["classes"] == {"0": 2, "1": 2, "2": 2}
    assert parsed("delete", "--yes") == {"deleted": "digits"}


def test_watching_until_a_task_is_consolidated_goes_on_once_it_is_learned(ctl, taught, service):
    for until, consolidated in (("final", False), ("consolidated", True)):
        status, out, err = ctl("watch", "t0", "--until", until, "--json")
        assert (status, err, json.loads(out)["consolidated"]) == (0, "", consolidated)

    service.faults.awake = True
    status, out, err = ctl("watch", "t0", "--until", "consolidated")
    assert (status, out, err) == (1, "", "error: memory 'digits' has nothing to consolidate\n")
    assert ctl("watch", "t0", "--until", "asleep")[0] == 2


def test_tables_are_for_people(ctl, taught):
    assert "t0    LEARNED" in ctl("tasks")[1]
    assert "1×2×2 uint8" in ctl("memories")[1]
    assert "seed=0" in ctl("describe")[1]
    assert ctl("classes")[1] == "0\n1\n2\n"


def test_cancelling_a_finished_task_fails_and_a_queued_one_is_cancelled(ctl, taught, service):
    assert ctl("cancel", "t0")[0] == 1
    service.lessons["t0"].task.state = pb.QUEUED
    assert ctl("cancel", "t0")[:2] == (0, "t0: CANCELLED\n")


def test_forgetting_asks_first(ctl, taught, service):
    status, out, err = ctl("forget", "t0", answer="n\n")
    assert status == 1
    assert "forgot" not in out
    assert "Forget task 't0' of memory 'digits' (LEARNED, classes 0, 1, 2) for good?" in err
    assert service.lessons

    service.faults.retraining = 1
    status, out, _ = ctl("forget", "t0", answer="y\n")
    assert (status, out.splitlines()[-1]) == (0, "forgot t0; the solver is being trained anew")
    assert not service.lessons


def test_forgetting_is_for_programs_too(ctl, taught):
    status, out, err = ctl("forget", "t0", "--yes", "--json")
    assert (status, err) == (0, "")
    assert (json.loads(out)["forgotten"], json.loads(out)["memory"]["tasks"]) == ("t0", 0)
    assert ctl("forget", "t0", "--yes")[0] == 1


def test_a_task_can_be_learned_as_erasable(ctl, npz, service):
    assert ctl("learn", str(npz), "--erasable")[0] == 0
    assert service.lessons["t0"].header.erasable


def test_a_task_can_repeat_another_one(ctl, npz, service):
    assert ctl("learn", str(npz), "--revises", "t7")[0] == 0
    assert service.lessons["t0"].header.revises == "t7"


def test_describing_says_whether_the_solver_is_ready(ctl, taught, service):
    assert "ready" in ctl("describe")[1]
    service.faults.retraining = 1
    assert "being trained anew" in ctl("describe")[1]


def test_classifying_tells_of_labels_where_there_are_any(ctl, taught, tmp_path):
    x = np.repeat(np.array([0, 1, 2, 1], np.uint8), 4).reshape(4, 1, 2, 2)
    np.savez(tmp_path / "known.npz", x=x, y=["0", "1", "2", "2"])
    np.savez(tmp_path / "new.npz", x=x)
    (tmp_path / "images").write_bytes(struct.pack(">4I", 0x803, 4, 2, 2) + x.tobytes())

    status, out, err = ctl("classify", str(tmp_path / "known.npz"), "--out", str(tmp_path / "labels.npz"))
    assert (status, err) == (0, "")
    assert "75.00% of 4" in out
    assert [line.split() for line in out.splitlines()[1:4]] == [["0", "1"], ["1", "2"], ["2", "1"]]
    with np.load(tmp_path / "labels.npz") as arrays:
        assert arrays["y"].tolist() == [0, 1, 2, 1] and arrays["classes"].tolist() == [0, 1, 2]
        assert arrays["p"].shape == (4, 3)
    for name in ("new.npz", "images"):
        told = json.loads(ctl("classify", str(tmp_path / name), "--task", "t0", "--json")[1])
        assert told == {"n": 4, "classes": {"0": 1, "1": 2, "2": 1}, "accuracy": None}
    assert ctl("classify", str(tmp_path / "labels.npz"))[2].count("holds ['classes', 'p', 'y']") == 1
    assert ctl("classify", str(tmp_path / "new.npz"), "--out", "labels.csv")[0] == 2


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.array([[0], [1], [2], [1]]), "one label a row"),
        (np.array([0.0, 1.0, 2.0, 1.0]), "convert them"),
        (np.array([0, 1, 2]), "4 rows and y 3"),
        (np.array([0]), "4 rows and y 1"),
    ],
)
def test_labels_that_cannot_be_compared_are_refused(ctl, taught, tmp_path, service, y, said):
    np.savez(tmp_path / "known.npz", x=np.zeros((4, 1, 2, 2), np.uint8), y=y)
    called = len(service.requests)

    status, out, err = ctl("classify", str(tmp_path / "known.npz"))

    assert (status, out, len(service.requests)) == (1, "", called)
    assert said in err


@pytest.mark.parametrize(
    "command",
    ["sample --n 500 --out {out}", "interpolate a b -n 100 --out {out}", "classify {data} --out {out}"],
)
def test_a_disk_that_fails_leaves_the_arrays_that_were_there(taught, server, tmp_path, command):
    out, data = tmp_path / "out.npz", tmp_path / "data.npz"
    out.write_bytes(b"older")
    np.savez(data, x=np.zeros((500, 1, 2, 2), np.uint8))

    done = subprocess.run(
        [
            *("sh", "-c", 'ulimit -f 2; exec "$@"', "sh"),  # blocks of 512 bytes
            *(*MEMORYCTL, *command.format(out=out, data=data).split(), "-m", "digits", "--target", server.target),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and "File too large" in done.stderr
    assert out.read_bytes() == b"older"
    assert sorted(tmp_path.iterdir()) == [data, out]


def test_names_are_printed_as_they_are(ctl, memory):
    names = ["a:b:c", ":smile:", "[bold]", "a\tb"]
    memory.learn_task((np.zeros((4, 1, 2, 2), np.uint8), names), progress=False)

    assert ctl("classes")[1] == "\n".join(names) + "\n"
    assert ", ".join(names[:3]) in ctl("tasks")[1]


def test_sleeping(ctl, taught, service):
    assert ctl("sleep")[:2] == (0, f"memory digits has slept: revision {service.revision}\n")
    assert json.loads(ctl("sleep", "--json")[1])["revision"] == service.revision
    service.faults.awake = True
    assert ctl("sleep")[0] == 1


def test_deleting_asks_first(ctl, taught, service):
    status, out, err = ctl("delete", answer="n\n")
    assert status == 1
    assert "deleted" not in out
    assert "Delete memory 'digits' with its 1 tasks" in err
    assert service.lessons

    status, out, _ = ctl("delete", answer="y\n")
    assert (status, out.splitlines()[-1]) == (0, "deleted digits")
    assert not service.lessons


def test_where_nobody_answers_nothing_is_deleted_and_the_option_is_named(ctl, taught, service):
    status, _, err = ctl("delete", answer="")
    assert status == 1
    assert "pass --yes" in err
    assert service.lessons


def test_an_interrupt_at_the_question_deletes_nothing(ctl, taught, service, monkeypatch):
    monkeypatch.setattr(session, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    assert ctl("delete", answer="")[0] == 130
    assert service.lessons


def test_global_options_may_stand_anywhere_but_behind_a_double_dash():
    assert hoisted(["tasks", "-m", "a", "--json"]) == ["-m", "a", "--json", "tasks"]
    assert hoisted(["tasks", "--target=x"]) == ["--target=x", "tasks"]
    assert hoisted(["watch", "--", "--json"]) == ["watch", "--", "--json"]
    assert hoisted(["tasks", "-m"]) == ["-m", "tasks"]
    assert hoisted(["tasks", "-mdigits"]) == ["-mdigits", "tasks"]


def test_the_target_comes_from_the_environment(taught, server):
    done = subprocess.run(
        [*MEMORYCTL, "classes", "-m", "digits"],
        env={**os.environ, "MEMORY_TARGET": server.target},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n1\n2\n", "")


def test_an_interrupt_while_watching_leaves_the_task_running_and_says_so(taught, server, service):
    service.faults.silent = True
    service.lessons["t0"].task.state = pb.LEARNING
    service.states = [service.lessons["t0"].task]
    ours, theirs = pty.openpty()
    # Whoever runs the tests in the background has SIGINT ignored, and children inherit that.
    command = ["env", "--default-signal=INT", *MEMORYCTL, "watch", "t0", "-m", "digits", "--target", server.target]
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.PIPE) as process:
        os.close(theirs)
        seen = b""
        while b"LEARNING" not in seen:
            seen += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    time.sleep(0.05)
    assert "memoryctl cancel" in os.read(ours, 10_000).decode()
    os.close(ours)
    assert Memory(server.target, "digits").task("t0").state == "LEARNING"


def test_without_its_extra_the_command_says_what_to_install():
    code = "import sys; sys.modules['typer'] = None; from memory_client.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr == "memoryctl needs typer: pip install 'generative-memory[cli]'\n"


@pytest.mark.parametrize("arguments", [["--version"], ["tasks", "-m", "digits", "--version"]])
def test_both_commands_say_which_version_they_are(arguments):
    said = CliRunner().invoke(app, arguments, prog_name="memoryctl")
    assert (said.exit_code, said.stdout) == (0, f"memoryctl {version('generative-memory')}\n")
    of_the_server = CliRunner().invoke(application(), ["--version"], prog_name="memory-server")
    assert (of_the_server.exit_code, of_the_server.stdout.split()[1:]) == (0, said.stdout.split()[1:])
