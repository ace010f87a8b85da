"""Files that appear when they are whole."""

import contextlib
import resource

import numpy as np
import pytest
from matplotlib.figure import Figure
from memory_client.cli.arrays import save
from memory_client.figures import draw
from memory_client.grid import draw_grid

X, Y = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), np.uint8), np.arange(4)
WRITERS = {
    "arrays.npz": lambda path: save(path, x=X, y=Y),
    "grid.png": lambda path: draw_grid(X, Y, path),
    "figure.png": lambda path: draw(lambda: Figure(figsize=(1, 1)), path),
}
writers = pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)


@contextlib.contextmanager
def room_for(count):
    """No file can become longer than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@writers
def test_what_was_there_is_lost_only_to_a_whole_file(tmp_path, name, write):
    path = tmp_path / name
    path.write_bytes(b"before")
    with room_for(100), pytest.raises(OSError):
        write(path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.stat().st_size > 100 and list(tmp_path.iterdir()) == [path]


@writers
def test_a_link_stays_one(tmp_path, name, write):
    (tmp_path / name).symlink_to(tmp_path / "real")
    write(tmp_path / name)
    assert (tmp_path / name).is_symlink() and (tmp_path / "real").stat().st_size > 100


def test_what_is_no_file_is_not_replaced(tmp_path):
    (tmp_path / "grid.png").symlink_to("/dev/null")
    draw_grid(X, Y, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").is_symlink() and (tmp_path / "grid.png").is_char_device()


def test_a_file_is_for_whom_other_files_of_the_user_are(tmp_path):
    (tmp_path / "other").touch()
    save(tmp_path / "arrays.npz", x=X)
    assert (tmp_path / "arrays.npz").stat().st_mode == (tmp_path / "other").stat().st_mode
