from hypothesis import given
from hypothesis import strategies as st

from memory_server.learning.schedule import Schedule

arrivals = st.lists(st.sampled_from("abc"), max_size=20)


def free(_item) -> bool:
    return True


def scheduled(memories: list[str]) -> Schedule[tuple[str, int]]:
    schedule: Schedule[tuple[str, int]] = Schedule()
    for position, memory in enumerate(memories):
        schedule.add(memory, (memory, position))
    return schedule


@given(memories=arrivals)
def test_tasks_start_in_the_foreseen_order_and_those_of_one_memory_in_theirs(memories):
    schedule = scheduled(memories)
    foreseen = schedule.order()
    started = []
    while (item := schedule.next(free)) is not None:
        started.append(item)
    assert started == foreseen
    assert len(started) == len(memories)
    for memory in "abc":
        positions = [position for name, position in started if name == memory]
        assert positions == sorted(positions)


@given(memories=arrivals)
def test_no_memory_waits_for_more_than_one_task_of_each_other(memories):
    starts = [name for name, _ in scheduled(memories).order()]
    for memory in set(memories):
        ahead = starts[: starts.index(memory)]
        assert len(ahead) == len(set(ahead))


def test_a_busy_memory_is_passed_over_and_keeps_its_turn():
    schedule = scheduled(["a", "b", "a"])
    assert schedule.next(lambda item: item[0] != "a") == ("b", 1)
    assert schedule.next(lambda item: item[0] != "a") is None
    assert schedule.next(free) == ("a", 0)


def test_what_comes_first_does_so_in_its_memory_alone():
    schedule = scheduled(["a", "b", "b"])
    schedule.add_first("b", ("b", "first"))
    schedule.add_first("c", ("c", "first"))
    assert schedule.order() == [("a", 0), ("b", "first"), ("c", "first"), ("b", 1), ("b", 2)]


def test_a_removed_task_does_not_start():
    schedule = scheduled(["a", "a"])
    schedule.remove("a", ("a", 0))
    assert schedule.order() == [("a", 1)]
    schedule.remove("a", ("a", 1))
    assert schedule.next(free) is None
