import numpy as np
import pytest
from harness.data import MissingData, load


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_where_data_belongs_is_said_when_there_is_none(name, tmp_path, monkeypatch):
    monkeypatch.delenv("GENERATIVE_MEMORY_DATA", raising=False)
    with pytest.raises(MissingData, match=f"{name} needs GENERATIVE_MEMORY_DATA=DIR, where DIR holds {name}/"):
        load(name, 0)
    monkeypatch.setenv("GENERATIVE_MEMORY_DATA", str(tmp_path))
    with pytest.raises(MissingData, match=f"does not hold what is needed: {name}/"):
        load(name, 0)


def test_cifar10_is_read_from_its_two_tables(tmp_path, monkeypatch):
    import io

    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    def encoded(value):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (value, 0, 0)).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": f"{value}.png"}

    (tmp_path / "cifar10").mkdir()
    for part, labels in (("train", [3, 1, 3]), ("test", [1])):
        table = pyarrow.table({"img": [encoded(10 * label) for label in labels], "label": labels})
        pyarrow.parquet.write_table(table, tmp_path / "cifar10" / f"{part}.parquet")
    monkeypatch.setenv("GENERATIVE_MEMORY_DATA", str(tmp_path))
    data = load("cifar10", 0)
    assert data.train.x.shape == (3, 3, 32, 32)
    assert data.train.x[:, 0, 0, 0].tolist() == [30, 10, 30] and data.train.y.tolist() == [3, 1, 3]
    assert data.test.y.tolist() == [1]


def test_only_images_to_learn_from_are_limited():
    whole, few = load("digits", 0), load("digits", 0, images=7)
    assert np.bincount(few.train.y).tolist() == [7] * 10
    assert len(few.test.y) == len(whole.test.y)
