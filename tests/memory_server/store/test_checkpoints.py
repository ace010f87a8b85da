import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_server.store import checkpoints
from memory_server.store.checkpoints import LIFETIME, CheckpointStore
from memory_server.store.sealing import SealingKey

KEY = SealingKey(bytes(range(32)))


@pytest.fixture
def directory(tmp_path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def store(directory) -> CheckpointStore:
    return CheckpointStore(directory, KEY, 60.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=50), part=st.integers(1, 20))
def test_what_was_put_down_is_found_again_and_is_not_to_be_read_on_disk(content, part, store, monkeypatch):
    monkeypatch.setattr(checkpoints, "PART", part)
    slot = store.slot("digits", "t0", "a0")
    slot.write(content)
    assert slot.read() == content
    assert len(content) < 8 or content not in Path(slot.path).read_bytes()


def test_neither_directory_nor_file_is_for_others_and_nothing_unfinished_is_left(store, directory):
    slot = store.slot("digits", "t0", "a0")
    slot.write(b"first")
    slot.write(b"second")
    assert [path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())] == [0o700, 0o600]
    assert slot.read() == b"second"
    assert slot.secret not in "".join(map(str, directory.iterdir()))


def test_nothing_is_found_where_there_is_nothing_or_what_is_there_was_changed(store, monkeypatch):
    monkeypatch.setattr(checkpoints, "PART", 4)
    slot = store.slot("digits", "t0", "a0")
    assert slot.read() is None
    slot.write(b"12345678")
    whole = Path(slot.path).read_bytes()
    for broken in (b"", whole[:-1], whole[: len(whole) // 2], whole[32:] + whole[:32], b"x" + whole[1:]):
        Path(slot.path).write_bytes(broken)
        assert slot.read() is None
    Path(slot.path).write_bytes(whole)
    assert replace(slot, secret=SealingKey.new().secret.hex()).read() is None
    assert slot.read() == b"12345678"


def test_every_attempt_has_a_key_of_its_own_and_the_same_attempt_the_same(store):
    attempts = [store.slot(*names) for names in (("m", "t", "a"), ("m", "t", "b"), ("m", "u", "a"), ("n", "t", "a"))]
    assert len({slot.secret for slot in attempts}) == len({slot.path for slot in attempts}) == 4
    assert store.slot("m", "t", "b") == attempts[1]
    assert KEY.secret.hex() not in {slot.secret for slot in attempts}


def test_another_attempt_at_a_task_removes_what_the_one_before_left(store, directory):
    for task in ("t0", "t1"):
        store.slot("digits", task, "a0").write(b"state")
    fresh = store.slot("digits", "t0", "other data")
    assert fresh.read() is None
    assert len(list(directory.iterdir())) == 1


def test_a_task_and_a_memory_take_theirs_along(store, directory):
    slots = [store.slot(memory, task, "a") for memory, task in (("m", "t0"), ("m", "t1"), ("m", "t2"), ("n", "t0"))]
    for slot in slots:
        slot.write(b"state")
    store.drop("m", "t0")
    assert [slot.read() is None for slot in slots] == [True, False, False, False]
    store.drop("m")
    assert [slot.read() is None for slot in slots] == [True, True, True, False]


def test_what_nobody_came_back_for_is_removed_after_a_day(directory):
    now = [1_000_000.0]
    store = CheckpointStore(directory, KEY, 60.0, clock=lambda: now[0])
    slot = store.slot("digits", "t0", "a0")
    slot.write(b"state")
    os.utime(slot.path, (now[0], now[0]))
    now[0] += LIFETIME - 1
    store.expire()
    assert slot.read() == b"state"
    now[0] += 2
    CheckpointStore(directory, KEY, 60.0, clock=lambda: now[0])
    assert list(directory.iterdir()) == []


def test_of_what_a_killed_server_left_only_whole_checkpoints_of_some_tasks_stay(store, directory):
    slots = [store.slot(memory, task, "a") for memory, task in (("m", "t0"), ("m", "t1"), ("n", "t0"))]
    for slot in slots:
        slot.write(b"state")
    Path(f"{slots[0].path}.unfinished").write_bytes(b"st")
    store.keep_only([("m", "t0"), ("m", "t9")])
    assert list(directory.iterdir()) == [Path(slots[0].path)]
    store.keep_only([])
    assert list(directory.iterdir()) == []


def test_a_file_that_vanishes_while_it_is_looked_at_or_cannot_be_removed_is_in_nobodys_way(
    store, directory, monkeypatch
):
    slots = [store.slot("m", task, "a") for task in ("t0", "t1")]
    for slot in slots:
        slot.write(b"state")
        os.utime(slot.path, (0, 0))
    there = [Path(slots[0].path), directory / "renamed.unfinished", Path(slots[1].path)]
    monkeypatch.setattr(store, "_of", lambda _: iter(there))
    unlink = Path.unlink

    def stuck(path, *arguments, **options):
        if path == there[0]:
            raise OSError(errno.EROFS, "Read-only file system")
        unlink(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", stuck)
    store.expire()
    assert list(directory.iterdir()) == [there[0]]
    store.drop("m", "t0")


@pytest.mark.parametrize("off", [{"key": None, "seconds": 60.0}, {"key": KEY, "seconds": 0.0}])
def test_where_none_are_kept_none_are_left_lying(off, store, directory):
    store.slot("digits", "t0", "a0").write(b"state")
    switched_off = CheckpointStore(directory, **off)
    assert switched_off.slot("digits", "t0", "a0") is None
    assert list(directory.iterdir()) == []
