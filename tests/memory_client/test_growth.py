"""memoryctl growth: the table, the JSON and the picture of how a memory grew."""

import json
import subprocess
import sys

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from memory_api.v1 import memory_pb2 as pb
from memory_client import InvalidInput
from memory_client.cli.app import app
from memory_client.growth import draw_growth
from PIL import Image, ImageOps
from typer.testing import CliRunner

PALETTE = {  # of the bars in (a) and (d), and of the generator's curve in (b)
    "reused": (0x00, 0x72, 0xB2),
    "new": (0xE6, 0x9F, 0x00),
    "unused": (0xA8, 0xA8, 0xA8),
    "free": (0xED, 0xED, 0xED),
    "weights": (0x00, 0x9E, 0x73),
    "masks": (0xCC, 0x79, 0xA7),
    "own": (0x56, 0xB4, 0xE9),
}


@pytest.fixture
def growth(server):
    """Runs `memoryctl growth` against the server; gives exit status, standard output and error."""

    def invoke(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["growth", *arguments, "--target", server.target, "-m", "digits"])
        return done.exit_code, done.stdout, done.stderr

    return invoke


@pytest.fixture
def describe(taught, service, analysed):
    """Describes a memory of so many tasks."""

    def memory(tasks: int, **measured):
        service.analysis = [analysed(f"t{index}", index, **measured) for index in range(tasks)]
        return taught.describe()

    return memory


def pixels(path) -> dict[tuple[int, ...], int]:
    """Colour -> how many pixels of a picture have it."""
    with Image.open(path) as image:
        colours = image.convert("RGB").getcolors(image.width * image.height)
    return {colour: count for count, colour in colours}


def test_a_row_per_task_says_what_it_uses_how_big_the_generator_was_and_what_lies_on_disk(growth, describe):
    describe(2)

    status, out, err = growth()

    assert (status, err) == (0, "")
    head, first, second, total, *caption = [line.split() for line in out.splitlines()]
    assert head == ["task", "new", "reused", "free", "size", "worst", "ratio", "values", "masks", "own", "disk"]
    assert first == ["t0", "60", "0", "140", "200", "200", "1.00", "12.0k", "25", "900", "12.9k"]
    assert second == ["t1", "40", "20", "140", "240", "400", "0.60", "12.0k", "25", "900", "12.9k"]
    assert total == ["all", "24.0k", "50", "1.80k", "25.9k"]
    assert "weights" in caption[0]


def test_the_caption_names_what_the_masks_select(growth, describe):
    describe(1, gate="unit")

    assert "free: units" in growth()[1]


def test_each_layer_has_a_row_if_that_is_asked_for(growth, describe):
    describe(1)

    rows = [line.split() for line in growth("--layers")[1].splitlines()]

    assert rows[2:4] == [["layer.1", "30", "0", "70"], ["layer.0", "30", "0", "70"]]


def test_tables_in_a_file_are_as_wide_as_they_must_be(growth, taught, service, analysed):
    service.analysis = [analysed("a-task-whose-name-is-long" * 4)]

    assert "a-task-whose-name-is-long" * 4 + "  " in growth()[1]


def test_programs_get_the_analysis_as_json_and_people_a_short_description(growth, describe, server):
    known = describe(2)

    assert json.loads(growth("--json")[1]) == known.to_dict()["analysis"]
    described = CliRunner().invoke(app, ["describe", "--target", server.target, "-m", "digits"]).stdout
    assert "trajectory" not in described
    parsed = CliRunner().invoke(app, ["describe", "--json", "--target", server.target, "-m", "digits"]).stdout
    assert json.loads(parsed)["analysis"][1]["layers"][0] == {
        "layer": "layer.1",
        "size": 120,
        "reserved": 20,
        "reused": 10,
        "free": 70,
    }


def test_a_memory_that_has_learned_nothing_says_so(growth, describe, tmp_path):
    describe(0)

    assert growth() == (0, "nothing has been learned yet\n", "")
    status, _, err = growth("--plot", str(tmp_path / "growth.png"))
    assert (status, err) == (
        1,
        "error: there is no growth of memory 'digits' to draw: it has not learned anything yet\n",
    )
    assert not list(tmp_path.iterdir())


def test_a_kind_without_masks_says_what_all_of_it_takes_and_has_no_picture(growth, taught, service, tmp_path):
    service.analysis = [pb.TaskAnalysis(task="t0"), pb.TaskAnalysis(task="t1")]

    status, out, _ = growth()
    assert status == 0
    assert out.startswith("dgmw tells nothing of single tasks: all ") and out.endswith(" kB on disk\n")
    assert growth("--plot", str(tmp_path / "growth.png"))[2].endswith("dgmw tells nothing of single tasks\n")


def words(figure) -> set[str]:
    """All that is written in a figure."""
    return {text.get_text() for text in figure.findobj(Text)}


@pytest.mark.parametrize("layers", [0, 2])
def test_a_kind_of_another_sort_is_shown_in_its_own_words_and_without_panels_that_would_be_empty(
    growth, taught, service, analysed, monkeypatch, tmp_path, layers
):
    service.analysis = [analysed(f"t{index}", index, gate="gaussian", layers=layers) for index in range(2)]
    for each in service.analysis:
        del each.trajectory[:]
        each.mask_bytes = 0
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **how: (figures.append(self), save(self, *args, **how)))

    status, out, err = growth("--plot", str(tmp_path / "growth.png"))

    assert (status, err) == (0, "")
    written = " ".join(words(figures[0])).lower()
    assert "mask" not in written and "generator" not in written and "norms" not in written
    assert ("gaussians" in written, "parameters" in written) == (bool(layers), bool(layers))
    assert "size on disk" in written and "values (24.0 kb in all)" in written
    rows = [line.split() for line in out.splitlines()]
    assert rows[1][-4:] == ["12.0k", "0", "900", "12.9k"]
    assert "gaussians" in out and "weights" not in out


def test_the_picture_shows_every_part_of_the_analysis(growth, describe, tmp_path):
    describe(3)
    path = tmp_path / "growth.png"

    assert growth("--plot", str(path))[0] == 0

    seen = pixels(path)
    assert all(seen.get(colour, 0) > 100 for name, colour in PALETTE.items()), seen
    assert len(seen) > 50  # and the shades of layers, and text
    with Image.open(path) as image:
        assert image.width == 2000
        assert image.height > 1000


def test_what_a_task_newly_reserves_is_drawn_in_proportion(describe, analysed, service, taught, tmp_path):
    areas = {}
    for reserved in (10, 30):
        changed = analysed("t0", layers=1)
        changed.layers[0].reserved, changed.layers[0].free = reserved, 100 - reserved
        service.analysis = [changed]
        draw_growth(taught.describe(), tmp_path / "growth.png")
        areas[reserved] = pixels(tmp_path / "growth.png")[PALETTE["new"]]

    with_legend_and_line = areas[10] - (areas[30] - areas[10]) / 2
    assert areas[30] > 2 * areas[10]
    assert 0 < with_legend_and_line < areas[10] / 4


@pytest.mark.parametrize(("tasks", "layers"), [(1, 1), (1, 6), (40, 2), (40, 13)])
def test_nothing_is_cut_off_a_picture_of_any_number_of_tasks_and_layers(describe, tmp_path, tasks, layers):
    path = tmp_path / "growth.png"

    draw_growth(describe(tasks, layers=layers), path)  # a layout that does not fit is a warning, and so an error here

    with Image.open(path) as image:
        inside = ImageOps.invert(image.convert("L")).getbbox()
        assert inside is not None
        assert min(inside[:2]) >= 4
        assert (inside[2] <= image.width - 4, inside[3] <= image.height - 4) == (True, True)


def test_drawing_leaves_the_settings_of_matplotlib_alone_and_opens_no_window(describe, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_growth(describe(2), tmp_path / "growth.png")

    assert dict(matplotlib.rcParams) == before
    loaded = "import memory_client.growth, sys; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", ["growth.pdf", "growth.svg"])
def test_a_picture_may_be_made_of_lines(describe, tmp_path, name):
    draw_growth(describe(2), tmp_path / name)

    assert b"%PDF" in (content := (tmp_path / name).read_bytes())[:100] or b"<svg" in content


def test_a_format_that_cannot_be_written_is_refused_with_one_that_can(describe, tmp_path):
    with pytest.raises(InvalidInput, match=r"name it \.png"):
        draw_growth(describe(1), tmp_path / "growth.csv")


def test_without_its_extra_a_picture_says_what_to_install(growth, describe, monkeypatch, tmp_path):
    describe(1)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "memory_client.growth")

    status, out, err = growth("--plot", str(tmp_path / "growth.png"))

    assert (status, out) == (1, "")
    assert err == "error: --plot needs matplotlib: pip install 'generative-memory[plot]'\n"
    assert growth()[0] == 0
