"""The file of an exported memory."""

import hashlib
import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.manifest import DataSpec, ExpertEntry, Manifest, TaskEntry
from memory_server.errors import MemoryExists
from memory_server.store.archive import ArchiveReader, pieces, read_header, size_of
from memory_server.store.arrival import Arrival
from memory_server.store.datadir import ARRIVALS, DataDir
from memory_server.store.errors import BadArchive, NotImported
from memory_server.store.records import Portable, TaskRecord, TaskState


def digest(content):
    return hashlib.sha256(content).hexdigest()


CONTENTS = [b"four" * 50, b"solver" * 30]
BLOBS = {digest(content): content for content in CONTENTS}
ENTRY = TaskEntry(
    "t0", digest(CONTENTS[0]), (ExpertEntry("e" * 64, (0, "a"), (5, 6)),), 0.5, 10, 1.5, analysis={"a": 1.5}
)
MANIFEST = Manifest("dgmw", {"seed": "7"}, DataSpec((1, 8, 8), "uint8"), 3, (ENTRY,), {"solver": digest(CONTENTS[1])})
RECORD = TaskRecord("digits", "t0", (0, "a"), 11, "d", TaskState.LEARNED, quality=0.5, revision=1)
PORTABLE = Portable(MANIFEST, (RECORD,), tuple((key, len(blob)) for key, blob in BLOBS.items()))
FILE = b"".join(pieces(PORTABLE, BLOBS))


def read(content, cuts=(), room=10_000):
    stored = []
    reader = ArchiveReader(lambda blob: stored.append(blob) or digest(blob), room)
    for start, end in zip((0, *cuts), (*cuts, len(content)), strict=True):
        reader.feed(content[start:end])
    return reader.finish(), stored


@given(cuts=st.lists(st.integers(0, len(FILE)), max_size=9).map(sorted))
def test_a_file_cut_anywhere_into_pieces_is_read_as_it_was_written(cuts):
    assert read(FILE, cuts) == (PORTABLE, CONTENTS)
    assert size_of(PORTABLE) == len(FILE)


@given(at=st.integers(0, len(FILE) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(at, bit):
    damaged = bytearray(FILE)
    damaged[at] ^= 1 << bit
    with pytest.raises(BadArchive):
        read(bytes(damaged))


@given(length=st.integers(0, len(FILE) - 1))
def test_a_file_that_was_cut_off_is_noticed(length):
    with pytest.raises(BadArchive, match="ends too early"):
        read(FILE[:length])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (FILE + b"x", "something follows"),
        (b"PK" + FILE[2:], "does not begin as one"),
        (FILE[:8] + b"\x02" + FILE[9:], "format 2"),
        (FILE[:12] + b"\xff" * 8 + FILE[20:], "longer than"),
    ],
)
def test_what_is_no_such_file_says_why(content, why):
    with pytest.raises(BadArchive, match=why):
        read(content)


def test_a_file_that_the_disk_has_no_room_for_is_refused_before_its_blobs():
    with pytest.raises(OSError, match="takes 380 bytes and 100 are free"):
        read(FILE, room=100)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("manifest", "spec", "shape"), [1]),
        (("manifest", "spec", "dtype"), "int8"),
        (("manifest", "tasks", 0, "quality"), "good"),
        (("manifest", "tasks", 0, "steps"), 2**64),
        (("manifest", "tasks", 0, "blob"), "f" * 64),
        (("manifest", "options"), []),
        (("tasks", 0, "state"), "LOST"),
        (("tasks", 0, "quality"), float("nan")),
        (("blobs",), []),
        (("blobs", 0, 1), 2**40),
        (("blobs", 0, 1), -1),
    ],
)
def test_a_header_that_does_not_add_up_is_refused(path, value):
    raw = asdict(PORTABLE)
    place = raw = json.loads(json.dumps(raw))
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(BadArchive):
        read_header(json.dumps(raw).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"nonsense", b"[" * 100_000, b"\xff"])
def test_a_header_that_is_none_is_refused(text):
    with pytest.raises(BadArchive):
        read_header(text)


def leftovers(path):
    return [found for found in (path / ARRIVALS).rglob("*") if (path / ARRIVALS).exists()]


def test_an_arrival_that_is_kept_is_a_memory_like_any(tmp_path):
    with DataDir(tmp_path) as data:
        with data.arrival() as arrival:
            arrival.feed(FILE)
            record = arrival.keep("copy")
        assert record.manifest == MANIFEST
        assert data.catalog.tasks("copy") == [replace(RECORD, memory="copy", revision=3)]
        assert dict(data.blobs) == BLOBS
        assert b"".join(pieces(data.catalog.export_memory("copy"), data.blobs)) != FILE, "its first revision is another"
        assert leftovers(tmp_path) == []


def test_how_long_an_arrival_takes_is_judged_by_what_has_come(tmp_path):
    now, most = [0.0], len(FILE) - 100
    with DataDir(tmp_path) as data, Arrival(tmp_path / ARRIVALS, data.blobs, data.adopt, lambda: now[0]) as arrival:
        told = [arrival.seconds_left]
        for seconds, start, end in ((4, 0, 10), (most - 4, 10, most), (60, most, len(FILE))):
            now[0] += seconds
            arrival.feed(FILE[start:end])
            told.append(arrival.seconds_left)
        assert told == [1, 4, pytest.approx(100), 300]


def test_an_arrival_under_a_taken_name_leaves_nothing(tmp_path):
    with DataDir(tmp_path) as data:
        data.create_memory("copy", Manifest("dgmw", {"seed": "7"}, DataSpec((1, 8, 8), "uint8")))
        with pytest.raises(MemoryExists), data.arrival() as arrival:
            arrival.feed(FILE)
            arrival.keep("copy")
        assert (leftovers(tmp_path), dict(data.blobs)) == ([], {})


def test_what_another_memory_needs_survives_an_arrival_that_brings_it_too(tmp_path):
    with DataDir(tmp_path) as data:
        for name in ("one", "two"):
            with data.arrival() as arrival:
                arrival.feed(FILE)
                arrival.keep(name)
        data.delete_memory("one")
        assert dict(data.blobs) == BLOBS


def test_a_disk_that_fills_while_a_memory_arrives_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with DataDir(tmp_path) as data:
        with pytest.raises(NotImported, match="No space left"), data.arrival() as arrival:
            monkeypatch.setattr("memory_server.store.blobs.write_durably", full)
            arrival.feed(FILE)
        assert leftovers(tmp_path) == []


def test_what_was_arriving_when_the_server_died_is_gone_after_it(tmp_path):
    with DataDir(tmp_path) as data:
        data.arrival().__enter__().feed(FILE[:-1])
        assert leftovers(tmp_path)
    with DataDir(tmp_path) as data:
        assert leftovers(tmp_path) == []
        assert len(data.blobs) == 0
