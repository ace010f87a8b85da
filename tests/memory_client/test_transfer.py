"""Exported files on the client's disk."""

import hashlib
from pathlib import Path

import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import InternalError, InvalidInput
from memory_client._transfer import Download
from memory_client.progress import Quiet

CONTENT = b"content" * 100
FILE = CONTENT + hashlib.sha256(CONTENT).digest()


def take(download, content, size=64, total=None):
    download.take(pb.ExportMemoryResponse(header=pb.ExportMemoryHeader(bytes=len(FILE) if total is None else total)))
    for start in range(0, len(content), size):
        download.take(pb.ExportMemoryResponse(chunk=content[start : start + size]))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 10_000])
def test_a_whole_file_appears_at_its_place_at_the_end_and_is_private(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"older")
    with Download(path, Quiet()) as download:
        take(download, FILE, size)
        assert path.read_bytes() == b"older"
        download.finish()
    assert path.read_bytes() == FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [FILE[:-1], FILE[:-40], b"", CONTENT + b"x" * 32, FILE + b"x"])
def test_a_file_that_is_not_what_was_sent_does_not_appear(tmp_path, content):
    with pytest.raises(InternalError, match="damaged"), Download(tmp_path / "file", Quiet()) as download:
        take(download, content, total=len(content))
        download.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_end_leaves_nothing_behind(tmp_path):
    with pytest.raises(OSError, match="No space left"), Download(tmp_path / "file", Quiet()) as download:
        download._file.close()
        download._file = open("/dev/full", "wb")  # noqa: PTH123, SIM115
        take(download, FILE)  # stays in the file's buffer until it is closed
    assert list(tmp_path.iterdir()) == []


def test_a_transfer_that_breaks_off_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt), Download(tmp_path / "file", Quiet()) as download:
        take(download, FILE[:100])
        raise KeyboardInterrupt
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"older"]


def test_what_is_no_file_is_not_replaced(tmp_path):
    for place in (tmp_path, "/dev/null"):
        with pytest.raises(InvalidInput, match=f"{place} is no file: name one"):
            Download(Path(place), Quiet())
    assert Path("/dev/null").is_char_device()
