"""Public data on disk, as a base is trained on it."""

import io
import struct

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from memory_server.bases.data import Selection


@pytest.fixture
def colours():
    """Seven images of 9 x 8 and their classes, which first occur in descending order."""
    return np.random.default_rng(1).integers(0, 256, (7, 9, 8, 3), dtype=np.uint8), [30, 20, 30, 10, 20, 10, 30]


@pytest.fixture
def table(tmp_path, colours):
    """A Parquet table in the layout of CIFAR-100."""

    def png(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        return {"bytes": file.getvalue(), "path": None}

    x, y = colours
    parquet.write_table(pa.table({"img": [png(each) for each in x], "fine_label": y}), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def selected(*paths, images=None, labels=None, size=None, grey=False):
    return Selection(paths, images, labels, size, grey).read()


def test_a_table_keeps_its_order_and_its_classes_ascend(table, colours):
    data = selected(table)
    assert np.array_equal(data.x.numpy(), np.moveaxis(colours[0], 3, 1))
    assert data.classes == (10, 20, 30)
    assert [data.classes[index] for index in data.y] == colours[1]


def test_grey_is_the_luminance_that_pillow_computes(table, colours):
    wanted = [np.asarray(Image.fromarray(each).convert("L")) for each in colours[0]]
    assert np.array_equal(selected(table, grey=True).x.numpy()[:, 0], wanted)


@pytest.mark.parametrize("grey", [False, True])
def test_images_are_resized_whatever_they_came_in(tmp_path, table, colours, grey):
    np.savez(tmp_path / "d.npz", x=np.moveaxis(colours[0], 3, 1), y=colours[1])
    of_table, of_arrays = selected(table, size=16, grey=grey), selected(tmp_path / "d.npz", size=16, grey=grey)
    assert of_table.x.shape == (7, 1 if grey else 3, 16, 16)
    if not grey:
        assert of_table.x.equal(of_arrays.x)


def test_several_files_are_one_set(tmp_path, table, colours):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3, 9, 8), np.uint8), y=[5, 10])
    data = selected(table, tmp_path / "d.npz")
    assert (len(data), data.classes) == (9, (5, 10, 20, 30))


def test_floats_become_bytes_as_they_do_on_the_wire(tmp_path):
    x = np.linspace(-1, 1, 2 * 64, dtype=np.float32).reshape(2, 1, 8, 8)
    np.savez(tmp_path / "d.npz", x=x, y=["b", "a"])
    data = selected(tmp_path / "d.npz")
    assert (data.x.min(), data.x.max(), data.classes, data.y.tolist()) == (0, 255, ("a", "b"), [1, 0])


def test_idx_files_are_read_as_a_pair(tmp_path):
    pixels = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8)
    (tmp_path / "images").write_bytes(struct.pack(">4I", 0x803, 3, 8, 8) + pixels.tobytes())
    (tmp_path / "labels").write_bytes(struct.pack(">2I", 0x801, 3) + bytes([5, 6, 5]))
    data = selected(images=tmp_path / "images", labels=tmp_path / "labels")
    assert np.array_equal(data.x[:, 0], pixels)
    assert (data.classes, data.y.tolist()) == ((5, 6), [0, 1, 0])
    with pytest.raises(ValueError, match="name the data"):
        selected(images=tmp_path / "images")
