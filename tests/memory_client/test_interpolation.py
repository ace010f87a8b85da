"""memory.interpolate, memoryctl interpolate and memoryctl styles against a server that keeps the wire's promises."""

import json
import sys

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import CannotInterpolate, InvalidInput, UnknownTask
from memory_client.cli.app import app
from memory_client.style_figure import draw_styles
from memory_client.styles import by_group, by_layer, shown, style_layers
from PIL import Image, ImageOps
from typer.testing import CliRunner

ROWS = 10 * np.arange(4)


@pytest.fixture
def ctl(server):
    """Runs a command line against the server; gives exit status, standard output and error."""

    def invoke(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [*arguments, "--target", server.target, "-m", "digits"])
        return done.exit_code, done.stdout, done.stderr

    return invoke


@pytest.fixture
def styled(taught, service, analysed):
    """A memory of one task t0 with a style in two layers, layer.1 and layer.0."""
    service.analysis = [analysed("t0", gate="style")]
    return taught


def last(service) -> pb.InterpolateRequest:
    return service.requests[-1]


# The client


def test_x_has_a_first_axis_of_weights_unless_that_is_one_number(memory):
    x = memory.interpolate("a", "b", [0, 0.5, 1], 4)
    assert (x.shape, x.dtype) == ((3, 4, 1, 2, 2), np.uint8)
    for index, weight in enumerate((0, 50, 100)):
        assert (x[index] == (ROWS + weight).reshape(4, 1, 1, 1)).all()
    assert memory.interpolate("a", "b", (0.5,), 4).shape == (1, 4, 1, 2, 2)
    np.testing.assert_array_equal(memory.interpolate("a", "b", n=4), x[1])
    np.testing.assert_array_equal(memory.interpolate("a", "b", np.float32(1), 4), x[2])
    np.testing.assert_array_equal(memory.interpolate("a", "b", np.linspace(0, 1, 3), 4), x)
    assert memory.interpolate("a", "b", n=4, dtype="float32").dtype == np.float32


def test_the_request_says_all_that_was_asked_for(memory, service):
    memory.interpolate(
        None, "b", 0.5, 4, seed=7, classes=(None, "cat"), groups="scale", layers=["x", "y"], revision=3, dtype="float32"
    )
    assert last(service) == pb.InterpolateRequest(
        memory="digits",
        end="b",
        weights=[0.5],
        n=4,
        seed=7,
        groups=["scale"],
        layers=["x", "y"],
        end_class=pb.ClassLabel(text="cat"),
        revision=3,
        format=pb.Format(dtype=pb.FLOAT32),
    )
    memory.interpolate("a", "b", classes=(0, None))
    assert (last(service).start, last(service).start_class, last(service).HasField("end_class")) == (
        "a",
        pb.ClassLabel(integer=0),
        False,
    )


def test_a_broken_stream_goes_on_with_the_same_noise_and_revision(memory, service):
    service.faults.lost_after_chunks = [3, 1, 2]

    x = memory.interpolate("a", "b", np.linspace(0, 1, 5), 4)

    assert (x[:, :, 0, 0, 0] == ROWS + np.array([[0], [25], [50], [75], [100]])).all()
    first, *others = service.requests
    assert [each.start_at for each in service.requests] == [0, 3, 4]
    assert {(each.seed, each.revision) for each in others} == {(first.seed, 1)}
    memory.interpolate("a", "b")
    assert last(service).seed != first.seed


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"weights": "half"}, "weights"),
        ({"weights": [[0.5]]}, "weights"),
        ({"weights": []}, "weights"),
        ({"classes": (1,)}, "classes"),
        ({"classes": 1}, "classes"),
        ({"classes": "ab"}, "classes"),
        ({"groups": []}, "groups"),
        ({"layers": ()}, "layers"),
        ({"seed": -1}, "seed"),
        ({"dtype": "int8"}, "dtype"),
    ],
)
def test_what_cannot_be_said_is_refused(memory, wrong, field):
    with pytest.raises(InvalidInput, match=field):
        memory.interpolate("a", "b", **wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": None}, "weights is None: pass numbers"),
        ({"weights": [0, None]}, r"weights is \[0, None\]: pass numbers"),
        ({"weights": float("nan")}, "weights is nan: pass numbers"),
        ({"end": None}, "end is None: name a task; only start may be the base"),
        ({"end": ""}, "end is ''"),
    ],
)
def test_no_weight_and_no_end_are_refused_by_name_before_anything_is_sent(memory, service, wrong, said):
    with pytest.raises(InvalidInput, match=said):
        memory.interpolate(**{"start": "a", "end": "b", **wrong})
    assert not service.requests


def test_a_memory_that_cannot_says_so(memory, service):
    service.faults.blend = "CANNOT_BLEND"
    with pytest.raises(CannotInterpolate, match="no styles"):
        memory.interpolate("a", "b")


# memoryctl interpolate


def test_a_grid_has_a_column_for_each_weight_and_a_row_for_each_noise(ctl, taught, service, tmp_path):
    out, grid = tmp_path / "x.npz", tmp_path / "x.png"

    status, text, err = ctl(
        *("interpolate", "t0", "t1", "--weights", "0,0.5,1", "-n", "4", "--seed", "3"),
        *("--start-class", "2", "--groups", "scale,bias", "--layers", "in", "--out", str(out), "--grid", str(grid)),
    )

    assert (status, err) == (0, "")
    assert "4 examples of 3 weights between t0 and t1" in text
    asked = last(service)
    assert (asked.start, asked.end, asked.seed, asked.start_class.integer) == ("t0", "t1", 3, 2)
    assert (list(asked.groups), list(asked.layers)) == (["scale", "bias"], ["in"])
    with np.load(out) as arrays:
        assert (arrays["x"].shape, arrays["weights"].tolist()) == ((3, 4, 1, 2, 2), [0, 0.5, 1])
        x = arrays["x"][:, :, 0, 0, 0]
    with Image.open(grid) as image:
        top = image.height - 4 * 60
        seen = [
            [image.getpixel((4 + 30 + 60 * column, top + 28 + 60 * row))[0] for row in range(4)] for column in (0, 1, 2)
        ]
    assert seen == x.tolist()


def test_a_dash_is_the_base_and_programs_get_json(ctl, taught, service, tmp_path):
    grid = tmp_path / "x.png"
    status, out, err = ctl("interpolate", "-", "t0", "-n", "2", "--grid", str(grid), "--json")
    assert (status, err) == (0, "")
    assert last(service).start == ""
    assert json.loads(out) == {
        "start": "",
        "end": "t0",
        "weights": [0, 0.25, 0.5, 0.75, 1],
        "n": 2,
        "shape": [1, 2, 2],
        "dtype": "uint8",
        "seed": None,
        "grid": str(grid),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["interpolate", "t0"],
        ["interpolate", "t0", "t1"],
        ["interpolate", "t0", "t1", "--out", "x.csv"],
        ["interpolate", "t0", "t1", "--grid", "x.png", "--weights", "0,half"],
        ["interpolate", "t0", "t1", "--grid", "x.png", "-n", "0"],
        ["styles"],
    ],
)
def test_misuse_is_told_with_status_2(ctl, arguments):
    status, out, err = ctl(*arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err


def test_an_error_of_the_server_is_one_line_with_status_1(ctl, taught, service, tmp_path):
    service.faults.blend = "CANNOT_BLEND"
    status, out, err = ctl("interpolate", "t0", "t1", "--grid", str(tmp_path / "x.png"))
    assert (status, out, err) == (1, "", "error: a memory of kind dgmw has no styles to blend\n")
    assert not list(tmp_path.iterdir())
    status, _, err = ctl("interpolate", "t0", "t1", "--end-class", "9", "--grid", str(tmp_path / "x.png"))
    assert (status, "'9'" in err, "0, 1, 2" in err) == (1, True, True)


# memoryctl styles


def test_groups_and_layers_are_switched_on_one_after_another_with_the_same_noise(styled, service):
    layers = style_layers(styled.describe(), "t0")
    assert layers == ("layer.1", "layer.0")
    settings = [*by_group(), *by_layer(layers)]
    service.requests.clear()
    rows = list(shown(styled, "t0", settings, 4, seed=9, label=2))

    asked = [(each.weights[0], list(each.groups), list(each.layers)) for each in service.requests]
    assert asked == [
        (0, [], []),
        (1, ["scale"], []),
        (1, ["shift"], []),
        (1, ["bias"], []),
        (1, ["scale", "shift"], []),
        (1, [], []),
        (1, [], ["layer.1"]),
        (1, [], ["layer.1", "layer.0"]),
    ]
    constant = {(each.seed, each.start, each.end, each.end_class.integer, each.n) for each in service.requests}
    assert constant == {(9, "", "t0", 2, 4)}
    assert rows[0].x.shape == (4, 1, 2, 2)


def test_the_table_says_how_far_each_part_takes_the_samples(ctl, styled):
    status, out, err = ctl("styles", "t0", "--seed", "1")
    assert (status, err) == (0, "")
    lines = [line.rsplit(maxsplit=2) for line in out.splitlines()[1:]]
    assert [[name.strip(), *distances] for name, *distances in lines] == [
        ["none", "0.0", "100.0"],
        ["scales only", "33.0", "67.0"],
        ["shifts only", "33.0", "67.0"],
        ["biases only", "33.0", "67.0"],
        ["without biases", "67.0", "33.0"],
        ["all", "100.0", "0.0"],
        ["+ layer.1", "50.0", "50.0"],
        ["+ layer.0", "100.0", "0.0"],
    ]


def test_programs_get_the_table_as_json(ctl, styled, tmp_path):
    path = tmp_path / "styles.png"
    status, out, _ = ctl("styles", "t0", "-n", "3", "--plot", str(path), "--json")
    assert status == 0
    told = json.loads(out)
    assert (told["task"], told["n"], told["plot"], len(told["rows"])) == ("t0", 3, str(path), 8)
    assert told["rows"][6]["layers"] == ["layer.1"]
    assert told["rows"][1]["groups"] == ["scale"]
    assert told["rows"][4]["from_base"] == pytest.approx(67, abs=1e-3)


def test_the_picture_has_a_row_for_each_setting(styled, tmp_path):
    heights = []
    for layers in (("in",), tuple(f"a.layer.with.a.long.name.{index}" for index in range(12))):
        path = tmp_path / "styles.png"
        groups, added = ([*shown(styled, "t0", some, 5, 1)] for some in (by_group(), by_layer(layers)))
        draw_styles("Style of t0", groups, added, path)  # a layout that does not fit is a warning, and so an error here
        with Image.open(path) as image:
            inside = ImageOps.invert(image.convert("L")).getbbox()
            assert inside is not None and min(inside[:2]) >= 2
            assert (inside[2] <= image.width - 2, inside[3] <= image.height - 2) == (True, True)
            heights.append(image.height)
            levels = {level for _, level in image.convert("L").getcolors(image.width * image.height)}
        assert levels >= {0, 10, 20, 33, 67, 100}
    assert heights[1] > 1.5 * heights[0]


def test_a_task_without_a_style_is_refused_with_what_there_is(ctl, taught, service, analysed):
    service.analysis = [analysed("t0")]
    with pytest.raises(UnknownTask, match="'t0'"):
        style_layers(taught.describe(), "t9")
    assert ctl("styles", "t0")[::2] == (
        1,
        "error: a memory of kind dgmw has no styles; make one with kind='gan_memory'\n",
    )
    service.analysis = []
    assert "it has learned none yet" in ctl("styles", "t0")[2]


def test_without_its_extra_a_picture_says_what_to_install(ctl, styled, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for module in ("figures", "style_figure"):
        monkeypatch.delitem(sys.modules, f"memory_client.{module}", raising=False)
    status, out, err = ctl("styles", "t0", "--plot", str(tmp_path / "styles.png"))
    assert (status, out) == (1, "")
    assert err == "error: --plot needs matplotlib: pip install 'generative-memory[plot]'\n"
    assert ctl("styles", "t0")[0] == 0


# memoryctl growth


def test_growth_tells_what_a_style_stores_against_a_whole_one(ctl, taught, service, analysed, tmp_path):
    service.analysis = [analysed(f"t{index}", index, gate="style") for index in range(3)]
    for each in service.analysis:
        each.worst_case, each.mask_bytes = 400, 0
        each.parameters = 80
        for layer in each.layers:
            layer.free = 0

    status, out, err = ctl("growth")

    assert (status, err) == (0, "")
    head, first, *_ = [line.split() for line in out.splitlines()]
    assert head == ["task", "new", "reused", "free", "size", "worst", "ratio", "values", "masks", "own", "disk"]
    assert first == ["t0", "60", "0", "0", "80", "400", "0.20", "12.0k", "0", "900", "12.9k"]
    assert "scales and shifts" in out
    assert "masks" not in out.splitlines()[-1]
    path = tmp_path / "growth.png"
    assert ctl("growth", "--plot", str(path))[0] == 0  # nothing is drawn of masks, for there are none
    with Image.open(path) as image:
        assert (image.width, image.height > 400) == (2000, True)
        colours = {colour for _, colour in image.convert("RGB").getcolors(image.width * image.height)}
    assert colours >= {(0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73), (0x56, 0xB4, 0xE9)}
