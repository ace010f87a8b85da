"""Sleep, followed over the wire."""

import io

import pytest
from memory_client import CannotSleep, Sleep
from memory_client.progress import TextProgress, describe_sleep
from memory_client.types import TaskProgress


class Seen(list):
    """A listener that keeps what it is told."""

    def sleep(self, sleep):
        self.append(sleep)

    def close(self):
        self.append("closed")


HALFWAY = TaskProgress("generator", 4, 10, 0.4, seconds_left=0.0)


def test_who_waits_sees_how_far_it_is_and_gets_the_memory(taught, service):
    before, seen = service.revision, Seen()

    info = taught.sleep(progress=seen)

    assert (info.name, info.revision) == ("digits", before + 1)
    assert seen == [Sleep("queued behind task b0", 1, 0.0), Sleep(), Sleep(progress=HALFWAY), "closed"]


def test_a_line_says_where_it_is():
    assert describe_sleep(Sleep("queued behind task b0", 1, 5.0)) == (
        "queued behind task b0, number 1 in the queue, starts in about 5 s"
    )
    assert describe_sleep(Sleep()) == "asleep"
    assert describe_sleep(Sleep(progress=HALFWAY)) == "asleep, generator 40%, 0 s left"
    file = io.StringIO()
    TextProgress(file).sleep(Sleep())
    assert file.getvalue() == "\rasleep"


def test_a_memory_that_cannot_sleep_says_so(taught, service):
    service.faults.awake = True

    with pytest.raises(CannotSleep, match="nothing to consolidate"):
        taught.sleep()


def test_a_memory_says_whether_it_sleeps_before_it_learns_more(taught, service):
    assert taught.describe().drowsy
    service.faults.awake = True
    assert not taught.describe().drowsy


@pytest.mark.parametrize("times", [1, 2])
def test_a_connection_that_breaks_costs_nothing_even_if_the_sleep_is_over_meanwhile(taught, service, times):
    service.faults.lost_asleep = times

    assert taught.sleep().name == "digits"
    assert service.faults.awake
