import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_server.learning.outlook import explain, forecast
from memory_server.learning.work import Work


class Job(Work):
    """Work that keeps what it is told."""

    def __init__(self, memory, number=0, seconds=10.0, alone=True):
        super().__init__(memory, alone)
        self.number = number
        self.seconds = seconds
        self.behind = ""
        self.position = 0
        self.starts = self.expected = 0.0

    @property
    def title(self):
        return f"{self.memory}{self.number}"

    def queued_behind(self, title, position):
        self.behind, self.position = title, position

    def expect(self, start, end):
        self.starts, self.expected = start, end

    def seconds_left(self, typical):
        return self.seconds


def jobs(text, alone=True):
    """One job of each memory that is named, as in "a b a"."""
    return [Job(memory, number, alone=alone) for number, memory in enumerate(text.split())]


@pytest.mark.parametrize(
    ("names", "alone", "running", "workers", "expected"),
    [
        ("a a b", True, 1, 1, ["a0", "a1"]),
        ("a b a b", True, 2, 2, ["a0", "b1"]),
        ("a b a a", True, 2, 2, ["a0", "a2"]),
        ("a a a a", False, 2, 2, ["a0", "a1"]),
        ("a a", True, 0, 1, ["", "a0"]),
    ],
)
def test_who_waits_is_told_what_must_end_before_it_can_start(names, alone, running, workers, expected):
    known = jobs(names, alone)
    explain(known[:running], known[running:], workers)
    assert [job.behind for job in known[running:]] == expected
    assert [job.position for job in known[running:]] == list(range(1, len(expected) + 1))


@pytest.mark.parametrize(
    ("names", "alone", "workers", "ends"),
    [
        ("a a a", True, 1, [10, 20, 30]),
        ("a b a", True, 2, [10, 10, 20]),
        ("a a a a", False, 2, [10, 10, 20, 20]),
    ],
)
def test_each_is_foreseen_to_start_and_end_with_its_turn(names, alone, workers, ends):
    known = jobs(names, alone)
    forecast(known[:1], known[1:], workers, typical=1.0)
    assert [job.expected for job in known] == ends
    assert [job.starts for job in known] == [end - 10 for end in ends]


@given(work=st.lists(st.tuples(st.sampled_from("abc"), st.floats(1, 100), st.booleans())), workers=st.integers(1, 4))
def test_no_more_is_foreseen_at_one_time_than_may_run_and_nothing_beside_what_excludes_it(work, workers):
    known = [Job(memory, seconds=seconds, alone=alone) for memory, seconds, alone in work]
    forecast([], known, workers, typical=1.0)
    for job in known:
        begins = job.expected - job.seconds
        beside = [one for one in known if one.expected - one.seconds <= begins + 1e-9 < one.expected - 1e-9]
        assert len(beside) <= workers
        assert not any(job.excludes(other) for other in beside if other is not job)
