"""Data on disk, as it is found in the wild."""

import gzip
import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_client import InvalidInput
from memory_client.files import (
    class_names,
    only_classes,
    read_examples,
    read_folder,
    read_idx,
    read_mnist,
    read_npz,
    read_parquet,
)
from memory_client.grid import TILE_PIXELS, draw_grid
from PIL import Image


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files_are_read_compressed_or_not(tmp_path, pack):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "f").write_bytes(pack(idx(array)))

    np.testing.assert_array_equal(read_idx(tmp_path / "f"), array)


def test_idx_numbers_are_turned_to_the_order_of_this_machine(tmp_path):
    array = np.array([1, -2, 300], ">i4")
    (tmp_path / "f").write_bytes(idx(array, 0x0C))

    assert read_idx(tmp_path / "f").tolist() == [1, -2, 300]
    assert read_idx(tmp_path / "f").dtype == np.int32


@pytest.mark.parametrize(
    "content",
    [
        b"PK\3\4....",
        *(idx(np.zeros((2, 3), ">i4"), 0x0C)[:size] for size in range(36)),
        struct.pack(">HBB4I", 0, 8, 4, *(2**16,) * 4),
    ],
)
def test_what_is_no_whole_idx_file_is_refused(tmp_path, content):
    (tmp_path / "f").write_bytes(content)

    with pytest.raises(InvalidInput, match=r"no IDX file|cut off"):
        read_idx(tmp_path / "f")


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-9], lambda content: content[:20] + b"????" + content[24:]]
)
def test_damaged_archives_are_named(tmp_path, damage):
    (tmp_path / "f.gz").write_bytes(damage(gzip.compress(idx(np.zeros((2, 8, 8), np.uint8)))))
    (tmp_path / "f.npz").write_bytes(b"PK\3\4 and no more")

    with pytest.raises(InvalidInput, match=r"f\.gz is damaged"):
        read_idx(tmp_path / "f.gz")
    with pytest.raises(InvalidInput, match=r"f\.npz cannot be read"):
        read_npz(tmp_path / "f.npz")


def test_an_npz_of_objects_is_refused_unread(tmp_path):
    np.savez(tmp_path / "f.npz", x=np.array([{}], object), y=[1])

    with pytest.raises(InvalidInput, match="cannot be read"):
        read_npz(tmp_path / "f.npz")


def test_images_and_labels_that_are_swapped_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(idx(np.zeros((2, 8, 8), np.uint8)))
    (tmp_path / "y").write_bytes(idx(np.zeros(2, np.uint8)))

    assert read_mnist(tmp_path / "x", tmp_path / "y")[0].shape == (2, 1, 8, 8)
    with pytest.raises(InvalidInput, match="expected"):
        read_mnist(tmp_path / "y", tmp_path / "x")


def test_an_npz_without_x_and_y_is_refused(tmp_path):
    np.savez(tmp_path / "f.npz", images=np.zeros(3))

    with pytest.raises(InvalidInput, match=r"np\.savez"):
        read_npz(tmp_path / "f.npz")


def test_a_folder_gives_its_sub_folders_as_classes(tmp_path):
    for name, value in (("10", 1), ("9", 2)):
        (tmp_path / name).mkdir()
        for i in range(2):
            (tmp_path / name / f"{i}.png").write_bytes(png(np.full((8, 8), value, np.uint8)))
        (tmp_path / name / "notes.txt").write_text("not an image")

    ((x, y),) = read_folder(tmp_path)

    assert x.shape == (4, 1, 8, 8)
    assert y.tolist() == [10, 10, 9, 9]
    assert x[:, 0, 0, 0].tolist() == [1, 1, 2, 2]


def test_examples_need_no_labels(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3)))
    np.savez(tmp_path / "xy.npz", x=np.ones((2, 3)), y=[0, 1])
    for name in ("a.png", "b.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    assert [(x.shape, y) for x, y in read_examples(tmp_path / "x.npz")] == [((2, 3), None)]
    assert [y.tolist() for _, y in read_examples(tmp_path / "xy.npz")] == [[0, 1]]
    assert [(x.shape, y) for x, y in read_examples(tmp_path)] == [((2, 3, 2, 2), None)]
    assert read_examples(tmp_path / "a.png") is None
    np.savez(tmp_path / "z.npz", z=0)
    with pytest.raises(InvalidInput, match=r"holds \['z'\]: save the data by np.savez\(path, x=x\)"):
        read_examples(tmp_path / "z.npz")


def test_a_folder_of_unlike_images_asks_for_a_size(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "a" / "2.png").write_bytes(png(np.zeros((8, 9, 3), np.uint8)))

    with pytest.raises(InvalidInput, match="--size"):
        list(read_folder(tmp_path))
    ((x, y),) = read_folder(tmp_path, size=16)
    assert x.shape == (2, 3, 16, 16)
    assert y.tolist() == ["a", "a"]


def test_a_folder_without_images_and_a_broken_image_are_named(tmp_path):
    with pytest.raises(InvalidInput, match="CLASS"):
        list(read_folder(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match=r"1\.png"):
        list(read_folder(tmp_path))


def test_parquet_tables_of_encoded_images_are_read(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": png(np.full((8, 8), value, np.uint8)), "path": None} for value in (3, 4, 5)]
    parquet.write_table(pa.table({"image": images, "label": [1, 0, 1]}), tmp_path / "f.parquet")

    ((x, y),) = read_parquet(tmp_path / "f.parquet")

    assert x[:, 0, 0, 0].tolist() == [3, 4, 5]
    assert y.tolist() == [1, 0, 1]
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "g.parquet")
    with pytest.raises(InvalidInput, match="expected `image` and `label`"):
        list(read_parquet(tmp_path / "g.parquet"))


@given(st.lists(st.sampled_from(["0", "1", "-3", "07", "a", "1.0", "²"]), min_size=1))
def test_names_are_integers_only_if_all_are_written_so(names):
    classes = class_names(names)

    assert [str(label) for label in classes] == names
    assert len({type(label) for label in classes}) == 1
    assert isinstance(classes[0], int) == all(name in ("0", "1", "-3") for name in names)


def test_a_filter_on_classes_drops_what_is_not_named():
    stream = [(np.arange(4), np.array([0, 1, 2, 1])), (np.arange(2), np.array([2, 2]))]

    assert [(x.tolist(), y.tolist()) for x, y in only_classes(stream, ["1", "0"])] == [([0, 1, 3], [0, 1, 1])]


@pytest.mark.parametrize(
    ("y", "why"), [(np.zeros((3, 1), int), "one label a row"), (np.zeros(3), "integers or strings")]
)
def test_only_classes_of_labels_that_are_none_are_refused(y, why):
    with pytest.raises(InvalidInput, match=why):
        list(only_classes([(np.zeros((3, 4), np.float32), y)], ["0"]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_grid_has_a_row_for_each_class(tmp_path, channels, dtype):
    x = np.ones((7, channels, 8, 8), dtype)

    draw_grid(x, np.array([0, 0, 0, 1, 1, 2, 2]), tmp_path / "grid.png")

    with Image.open(tmp_path / "grid.png") as image:
        assert image.height >= 3 * TILE_PIXELS
        assert image.width >= 3 * TILE_PIXELS
        drawn = 255 if dtype == np.float32 else 1
        assert image.getpixel((image.width - 8 - 2 * (TILE_PIXELS + 4), 8)) == (drawn,) * 3


def test_a_grid_needs_a_format_that_can_be_written(tmp_path):
    with pytest.raises(InvalidInput, match=r"name it \.png"):
        draw_grid(np.zeros((1, 1, 8, 8), np.uint8), np.zeros(1), tmp_path / "grid.xyz")


def test_vectors_cannot_be_drawn(tmp_path):
    with pytest.raises(InvalidInput, match="vectors"):
        draw_grid(np.zeros((2, 5), np.float32), np.zeros(2), tmp_path / "grid.png")
