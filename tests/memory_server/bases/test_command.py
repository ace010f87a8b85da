"""`memory-server base`: what it writes, what it prints, and with which exit status it ends."""

import json
import os
import pickle
import platform
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dgm_core.blobs import unsealed
from dgm_core.style.base import Base
from memory_server.bases.command import base
from tests.dgm_core.bases import random_base
from tests.dgm_core.style.test_importing import SMALL, checkpoint

QUICK = ("--width", "4", "--noise", "8", "--steps", "4", "--threads", "1", "--device", "cpu")


@pytest.fixture
def run(tmp_path):
    """Runs a command line on a data directory; gives exit status, standard output and error."""

    def invoke(*arguments):
        done = CliRunner().invoke(base, [*map(str, arguments)], env={"MEMORY_SERVER_DATA_DIR": str(tmp_path / "data")})
        return done.exit_code, done.stdout, done.stderr

    return invoke


@pytest.fixture
def bases(tmp_path):
    folder = tmp_path / "data" / "bases"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "public.npz"
    x = np.random.default_rng(0).integers(0, 256, (24, 3, 8, 8), dtype=np.uint8)
    np.savez(path, x=x, y=np.array([5, 3] * 12))
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_into_the_directory_of_a_server_is_the_servers(run, npz, tmp_path):
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 65533, 65532)
    for options in ((), ("--replace",)):
        status, _, err = run("train", npz, "--name", "mine", *QUICK, *options)
        assert status == 0, err
        found = [(path.stat().st_uid, path.stat().st_gid) for path in (tmp_path / "data").rglob("*")]
        assert found == [(65533, 65532)] * 2


def test_training_writes_a_base_that_says_how_it_came_about(run, npz, tmp_path):
    status, out, err = run("train", npz, "--name", "mine", *QUICK, "--seed", "3")

    assert status == 0, err
    path = tmp_path / "data" / "bases" / "mine.safetensors"
    made = Base.unpack(path.read_bytes())
    assert (made.name, made.design.shape, made.design.noise) == ("mine", (3, 8, 8), 8)
    given = {"data": "public.npz", "examples": 24, "classes": 2, "steps": 4, "seed": 3}
    computed = {"torch": torch.__version__, "device": "cpu", "threads": 1}
    assert made.trained.items() >= (given | computed).items()
    assert made.trained.keys() - (given | computed).keys() == {"processor", "precision"}
    assert platform.machine() in made.trained["processor"] and made.trained["precision"] in ("bfloat16", "float32")
    assert unsealed(path.read_bytes()) == (made.blob, made.digest)
    assert re.fullmatch(rf"mine {made.digest} [\d.]+ kB, [\d.]+k parameters: {re.escape(str(path))}\n", out)
    assert "step 4 of 4" in err
    modes = [oct(each.stat().st_mode & 0o777) for each in (path, path.parent, path.parent.parent)]
    assert modes == ["0o600", "0o700", "0o700"]
    assert list(path.parent.iterdir()) == [path]


def test_the_same_command_makes_the_same_base_and_the_name_has_no_part_in_it(run, npz, tmp_path):
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run("train", npz, "--name", name, *QUICK, "--seed", seed)[0] == 0
        made[name] = Base.unpack((tmp_path / "data" / "bases" / f"{name}.safetensors").read_bytes()).generator
    same = {pair: all(made[pair[0]][k].equal(made[pair[1]][k]) for k in made["a"]) for pair in ("ab", "ac")}
    assert same == {"ab": True, "ac": False}


def test_a_base_may_be_written_anywhere(run, npz, tmp_path):
    out = tmp_path / "elsewhere.safetensors"
    assert run("train", npz, "--name", "mine", *QUICK, "--out", out, "--source", "public things")[0] == 0
    assert Base.unpack(out.read_bytes()).trained["data"] == "public things"
    assert not (tmp_path / "data").exists()


def test_another_base_is_replaced_only_if_that_is_asked_for(run, npz, bases):
    path = bases / "mine.safetensors"
    path.write_bytes(random_base("mine").file)
    before = path.read_bytes()

    status, _, err = run("train", npz, "--name", "mine", *QUICK)
    assert (status, path.read_bytes()) == (2, before)
    assert "step" not in err, "it was refused after the training"
    assert "--replace" in err

    assert run("train", npz, "--name", "mine", *QUICK, "--replace")[0] == 0
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name the data"),
        (("DATA", "--images", "DATA", "--labels", "DATA"), "name the data"),
        (("OTHER",), "neither an .npz"),
        (("DATA", "--name", "a/b"), "not a name"),
        (("DATA", "--network", "telepathy"), "there is no network 'telepathy'"),
        (("DATA", "--device", "abacus"), "there is no device 'abacus'"),
        (("DATA", "--out", "mine.bin"), "must end in .safetensors"),
        (("DATA", "--out", "no/such/folder/mine.safetensors"), "there is no folder"),
        (("VECTORS",), "images (n, C, H, W)"),
        (("NAN",), "NaN"),
        (("DATA", "SMALLER"), "(3, 8, 8) and (3, 10, 10)"),
        (("EMPTY",), "empty.npz: there are no rows"),
        (("EMPTY", "--size", "16"), "empty.npz: there are no rows"),
        (("DATA", "UNEVEN"), "x has 4 rows and y 3"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(run, npz, tmp_path, arguments, says):
    np.savez(tmp_path / "vectors.npz", x=np.zeros((4, 9), np.float32), y=np.arange(4))
    np.savez(tmp_path / "nan.npz", x=np.full((4, 3, 8, 8), np.nan, np.float32), y=np.arange(4))
    np.savez(tmp_path / "smaller.npz", x=np.zeros((4, 3, 10, 10), np.uint8), y=np.arange(4))
    np.savez(tmp_path / "empty.npz", x=np.zeros((0, 3, 8, 8), np.uint8), y=np.arange(0))
    np.savez(tmp_path / "uneven.npz", x=np.zeros((4, 3, 8, 8), np.uint8), y=np.arange(3))
    (tmp_path / "other.txt").write_text("no data")
    files = {"VECTORS": "vectors.npz", "NAN": "nan.npz", "SMALLER": "smaller.npz", "OTHER": "other.txt"}
    files |= {"EMPTY": "empty.npz", "UNEVEN": "uneven.npz"}
    files = {key: str(tmp_path / name) for key, name in files.items()} | {"DATA": str(npz)}
    name = () if "--name" in arguments else ("--name", "mine")
    status, out, err = run("train", *name, *QUICK, *(files.get(each, each) for each in arguments))

    assert (status, out) == (2, "")
    assert err.startswith("memory-server base: ") and err.count("\n") == 1 and says in err
    assert not (tmp_path / "data").exists()


def test_an_interrupt_ends_training_and_leaves_nothing(npz, tmp_path):
    # Whoever runs the tests in the background has SIGINT ignored, and children inherit that.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "memory_server", "base", "train", str(npz)]
    options = ["--name", "mine", "--width", "4", "--noise", "8", "--steps", "10000000", "--threads", "1"]
    environment = {**os.environ, "MEMORY_SERVER_DATA_DIR": str(tmp_path / "data")}
    with subprocess.Popen([*command, *options], env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None and "step 0 of" in process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(30) == 130
    assert rest.splitlines()[-1] == "memory-server base: interrupted; nothing was written"
    assert "Traceback" not in rest
    assert not (tmp_path / "data").exists()


def test_the_list_tells_what_there_is_and_what_is_broken(run, bases):
    made = random_base("mine")
    (bases / "mine.safetensors").write_bytes(made.file)
    (bases / "renamed.safetensors").write_bytes(random_base("first").file)
    (bases / "cut.safetensors").write_bytes(made.file[:-9])
    (bases / "trap.safetensors").write_bytes(pickle.dumps({}))

    status, out, _ = run("list")
    assert status == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert made.digest[:12] in lines["mine"] and "1 x 8 x 8" in lines["mine"] and lines["mine"].rstrip().endswith("own")
    assert lines["first"].rstrip().endswith("own: renamed.safetensors")
    assert "broken" in lines["cut"] and "cut.safetensors is no base" in lines["cut"]
    assert "broken" in lines["trap"] and "a pickle, which may hold code" in lines["trap"]

    found = {each["name"]: each for each in json.loads(run("list", "--json")[1])}
    assert found["mine"]["digest"] == made.digest
    assert (found["mine"]["parameters"], found["mine"]["shipped"]) == (made.parameters, False)
    assert 0 < found["mine"]["style_parameters"] < made.parameters
    assert "no base" in found["cut"]["problem"] and found["cut"]["digest"] == ""
    assert found["cifar100-grey"]["shipped"]


def test_a_base_is_shown_with_all_that_is_known_of_it(run, bases, tmp_path):
    made = random_base("mine")
    (bases / "mine.safetensors").write_bytes(made.file)

    status, out, _ = run("show", "mine", "--grid", tmp_path / "grid.png")
    assert status == 0
    assert made.digest in out and "none" in out and "dcgan" in out
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width >= 8 * 8 and grid.height >= 8 * 8

    (bases / "mine.safetensors").rename(bases / "renamed.safetensors")
    assert run("show", "renamed")[1] == run("show", "mine")[1]

    shown = json.loads(run("show", made.digest[:8], "--json")[1])
    assert shown["trained"] == {"data": "none"}
    assert shown["design"]["widths"] == list(made.design.widths)


def test_a_base_that_is_broken_or_not_there_is_not_shown(run, bases):
    (bases / "cut.safetensors").write_bytes(random_base("cut").file[:-9])
    for name, says in (("cut", "cut.safetensors is no base"), ("nobody", "there is no base 'nobody'; the bases are")):
        status, out, err = run("show", name)
        assert (status, out) == (2, "")
        assert says in err


def test_a_published_checkpoint_becomes_a_base(run, tmp_path):
    torch.save(checkpoint(SMALL), tmp_path / "model.pt")
    status, out, err = run("import", tmp_path / "model.pt", "--name", "published")
    assert (status, err) == (0, "")
    made = Base.unpack((tmp_path / "data" / "bases" / "published.safetensors").read_bytes())
    assert (made.name, made.design.network) == ("published", "gpgan")
    assert made.digest in out

    assert run("import", tmp_path / "model.pt", "--name", "published")[:2] == (0, out)  # the same base is no other


def test_a_checkpoint_that_is_none_is_refused_and_nothing_is_written(run, tmp_path):
    trap = tmp_path / "trap.pt"
    trap.write_bytes(pickle.dumps(os.system))
    status, out, err = run("import", trap, "--name", "mine")
    assert (status, out) == (2, "")
    assert "trap.pt" in err
    assert not (tmp_path / "data").exists()
