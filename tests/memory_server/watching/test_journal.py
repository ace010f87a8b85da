from dataclasses import replace

from structlog.testing import capture_logs

from memory_server.store.records import TaskState
from memory_server.watching.journal import Journal
from tests.memory_server.watching.test_activity import at


def test_each_state_is_one_line_and_a_failure_tells_its_reason_but_not_its_words():
    failed = at(TaskState.FAILED)
    failed = replace(failed, record=replace(failed.record, error="0.123 is no value", error_reason="CANNOT_LEARN"))
    with capture_logs() as lines:
        journal = Journal()
        for status in (at(TaskState.QUEUED), at(TaskState.LEARNING), at(TaskState.LEARNING, step=1), failed):
            journal.changed(status)
    assert [line["state"] for line in lines] == ["QUEUED", "LEARNING", "FAILED"]
    assert lines[-1]["reason"] == "CANNOT_LEARN" and "0.123" not in str(lines)
