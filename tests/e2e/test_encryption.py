"""A server whose directory is encrypted."""

import numpy as np
from memory_client import Memory
from typer.testing import CliRunner

from memory_server.maintenance.keys import key


def test_an_encrypted_server_gives_the_same_samples_learns_on_and_shows_nothing(
    server, taught, new_server, name, make_images, tmp_path
):
    secret = tmp_path / "key"
    assert CliRunner().invoke(key, ["new", str(secret)]).exit_code == 0
    encrypted = new_server(encryption_key_file=secret)
    encrypted.start()
    with Memory(server.target, taught) as plain:
        plain.export(tmp_path / "file", progress=False)
        expected = [plain.sample(n=40, seed=seed)[0] for seed in (1, 2)]

    with Memory.import_file(encrypted.target, tmp_path / "file", name) as memory:
        x, y = make_images(40, (4, 5))
        memory.learn_task((x, y + 4), task="t2", steps=10, progress=False)  # by a worker that reads what is sealed
        for seed, samples in zip((1, 2), expected, strict=True):
            assert np.array_equal(memory.sample([0, 1, 2, 3], n=40, seed=seed)[0], samples)

    opened = new_server("opened", encryption_key_file=tmp_path / "other")
    assert CliRunner().invoke(key, ["new", str(tmp_path / "other")]).exit_code == 0
    assert encrypted.stop() == 0
    blobs = [path.read_bytes() for path in (encrypted.data_dir / "blobs").rglob("*/*")]
    assert len(blobs) > 3
    assert not any(b"safetensors" in blob or b"__metadata__" in blob for blob in blobs)
    shown = encrypted.stderr.read_bytes() + encrypted.stdout.read_bytes()
    assert secret.read_bytes().strip() not in shown

    rotated = ["rotate", "--old", str(secret), "--new", str(tmp_path / "other"), "--data-dir", str(encrypted.data_dir)]
    assert CliRunner().invoke(key, rotated).exit_code == 0
    assert encrypted.launch().wait(60) == 2
    assert "was encrypted by another key" in encrypted.stderr.read_text()
    opened.data_dir = encrypted.data_dir
    with Memory(opened.start().target, name) as memory:
        assert np.array_equal(memory.sample([0, 1, 2, 3], n=40, seed=1)[0], expected[0])
