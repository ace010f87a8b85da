"""The audit log: what its lines are, and what happens when they cannot be written."""

import errno
import json
import os
import threading
from datetime import UTC, datetime

import pytest

from memory_server.errors import AuditFailed, CannotStart
from memory_server.interceptors.access import Access
from memory_server.interceptors.guard import Guard
from memory_server.security import audit
from memory_server.security.audit import AuditLog
from memory_server.security.streams import OpenStreams

NOW = datetime(2026, 11, 21, 12, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture
def log(tmp_path):
    made = AuditLog(tmp_path / "audit.jsonl", lambda: NOW)
    yield made
    made.close()


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_has_the_time_in_utc_and_what_is_known(log, tmp_path):
    log.write("begin", memory="m\n{}", rows=0, revision=None, tasks=[], name="x" * 10_000)
    (line,) = lines(tmp_path)
    assert line == {
        "time": "2026-11-21T12:30:00.123+00:00",
        "event": "begin",
        "memory": "m\n{}",
        "rows": 0,
        "name": "x" * 200,
    }


HOSTILE = '\0\n"\\\u2028\u202e\x1b]0;\U0001f4a9' * 100


def test_a_line_of_hostile_names_is_one_line_and_bounded(log, tmp_path):
    log.write("begin", memory=HOSTILE, tasks=[HOSTILE] * 50_000)
    (line,) = lines(tmp_path)
    assert line["memory"] == HOSTILE[:200]
    assert (line["tasks"], line["tasks_left_out"]) == ([HOSTILE[:200]] * 100, 49_900)
    assert (tmp_path / "audit.jsonl").stat().st_size < 256 << 10
    assert (tmp_path / "audit.jsonl").read_bytes().isascii()


def test_a_list_that_is_short_enough_is_told_whole(log, tmp_path):
    log.write("begin", tasks=[f"t{k}" for k in range(100)])
    (line,) = lines(tmp_path)
    assert len(line["tasks"]) == 100 and "tasks_left_out" not in line


def test_a_log_that_others_may_read_is_refused(tmp_path):
    (tmp_path / "audit.jsonl").touch(0o644)
    with pytest.raises(CannotStart, match="its mode is 0644"):
        AuditLog(tmp_path / "audit.jsonl")
    with pytest.raises(CannotStart, match="No such file or directory; name a file"):
        AuditLog(tmp_path / "missing" / "audit.jsonl")


def test_a_full_disk_leaves_no_half_line_and_is_over_when_there_is_room(log, tmp_path, monkeypatch):
    log.write("first")
    whole, written = os.write, []

    def half(file, line):
        written.append(whole(file, line[: len(line) // 2]) if not written else full())
        return written[-1]

    with monkeypatch.context() as patch:
        patch.setattr(audit.os, "write", half)
        with pytest.raises(AuditFailed, match="free disk space"):
            log.write("second")
    log.write("third")
    assert [line["event"] for line in lines(tmp_path)] == ["first", "third"]


def test_a_disk_that_does_not_sync_has_lines_refused_until_it_does(log, tmp_path, monkeypatch, eventually):
    with monkeypatch.context() as patch:
        patch.setattr(audit.os, "fdatasync", full)
        log.write("first")
        eventually(lambda: log._failure is not None)
        with pytest.raises(AuditFailed):
            log.write("second")
    eventually(lambda: log._failure is None)
    log.write("third")
    assert [line["event"] for line in lines(tmp_path)] == ["first", "third"]


class SlowDisk:
    """Syncs when it is let, and then knows what it has synced."""

    def __init__(self):
        self.begun, self.let = threading.Event(), threading.Event()
        self.synced = []

    def __call__(self, file):
        size = os.fstat(file).st_size
        self.begun.set()
        assert self.let.wait(60)
        self.synced.append((os.fstat(file).st_ino, size))


@pytest.fixture
def slow(monkeypatch):
    made = SlowDisk()
    monkeypatch.setattr(audit.os, "fdatasync", made)
    yield made
    made.let.set()


def test_nobody_waits_for_a_disk_that_syncs_slowly(log, tmp_path, slow):
    log.write("first")
    assert slow.begun.wait(60)
    log.write("second")
    log.tell("third")
    assert [line["event"] for line in lines(tmp_path)] == ["first", "second", "third"]


def test_a_file_that_was_moved_away_is_synced_though_nobody_waits_for_it(log, tmp_path, slow, eventually):
    log.write("first")
    assert slow.begun.wait(60)
    log.write("second")
    moved = (tmp_path / "audit.jsonl").rename(tmp_path / "audit.1").stat()
    log.reopen()
    log.write("third")
    slow.let.set()
    eventually(lambda: (moved.st_ino, moved.st_size) in slow.synced)
    assert [line["event"] for line in lines(tmp_path)] == ["third"]


def test_the_end_syncs_what_was_written_while_the_disk_was_busy(tmp_path, slow):
    log = AuditLog(tmp_path / "audit.jsonl")
    log.write("first")
    assert slow.begun.wait(60)
    log.write("second")
    threading.Timer(0.2, slow.let.set).start()
    log.close()
    found = (tmp_path / "audit.jsonl").stat()
    assert slow.synced[-1] == (found.st_ino, found.st_size)


class Context:
    def peer(self):
        return "ipv4:10.0.0.7:1234"

    def auth_context(self):
        return {}

    def invocation_metadata(self):
        return ()


@pytest.mark.parametrize("method", ["DeleteMemory", "Sample"])
async def test_what_cannot_be_noted_is_not_done(log, monkeypatch, method):
    from memory_api.v1 import memory_pb2 as pb

    guard, done = Guard(Access(None), log, OpenStreams(1), OpenStreams(1)), []
    async with guard.identified(method, Context()) as caller:
        monkeypatch.setattr(audit.os, "write", full)
        with pytest.raises(AuditFailed), guard.visit(method, caller, Context(), pb.SampleRequest(memory="m")):
            done.append(method)
    assert done == []
