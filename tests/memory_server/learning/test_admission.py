from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_server.errors import ClientLimit, ServerBusy, TaskTooLarge
from memory_server.learning.admission import IngestBudget


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def budget(now) -> IngestBudget:
    return IngestBudget(limit=100, max_queue=3, clock=lambda: now[0])


def test_a_task_that_alone_exceeds_the_budget_will_never_fit(budget):
    task = budget.reserve()
    task.grow(60)
    with pytest.raises(TaskTooLarge, match=r"100 bytes.* larger --ingest-budget-bytes"):
        task.grow(41)
    assert budget.used == 60


def test_a_task_waits_until_the_work_that_holds_its_bytes_is_expected_to_end(budget):
    running, queued, arriving = budget.reserve(), budget.reserve(), budget.reserve()
    running.grow(30)
    queued.grow(50)
    running.expect(40)
    queued.expect(90)
    arriving.grow(20)
    with pytest.raises(ServerBusy) as busy:
        arriving.grow(10)
    assert busy.value.retry_after == 40
    with pytest.raises(ServerBusy) as busy:
        arriving.grow(40)
    assert busy.value.retry_after == 90


def test_a_full_queue_says_when_the_first_place_is_free(budget, now):
    tasks = [budget.reserve() for _ in range(3)]
    for seconds, task in enumerate(tasks, start=7):
        task.expect(seconds)
    now[0] = 5.0
    with pytest.raises(ServerBusy, match="3 tasks") as busy:
        budget.reserve()
    assert busy.value.retry_after == 2.0
    tasks[2].release()
    budget.reserve()


def test_what_was_held_for_long_is_expected_to_be_held_for_long_again(budget, now):
    for _ in range(30):
        task = budget.reserve()
        task.expect(60.0)
        now[0] += 400.0
        task.release()
    for _ in range(3):
        budget.reserve()
    with pytest.raises(ServerBusy) as busy:
        budget.reserve()
    assert busy.value.retry_after == pytest.approx(400.0, rel=0.01)


@pytest.mark.parametrize(("overdue", "told"), [(0.5, 1.0), (20.0, 20.0), (3000.0, 30.0)])
def test_what_is_overdue_is_expected_to_go_on_for_as_long_again_up_to_a_typical_time(budget, now, overdue, told):
    for _ in range(3):
        budget.reserve()
    now[0] = 30.0 + overdue  # a task is expected to take 30 seconds, as long as nothing better is known
    with pytest.raises(ServerBusy) as busy:
        budget.reserve()
    assert busy.value.retry_after == told


def test_releasing_twice_gives_back_once(budget):
    first, second = budget.reserve(), budget.reserve()
    first.grow(10)
    second.grow(20)
    first.release()
    first.release()
    assert budget.used == 20


@given(sizes=st.lists(st.integers(0, 60), max_size=20))
def test_never_more_than_the_budget_is_in_use(sizes):
    budget = IngestBudget(limit=100, max_queue=100)
    for size in sizes:
        task = budget.reserve()
        try:
            task.grow(size)
        except ServerBusy as busy:
            assert busy.retry_after >= 1.0
            task.release()
        assert budget.used <= 100


def test_threads_share_the_budget_without_losing_a_byte():
    budget = IngestBudget(limit=8000, max_queue=8)
    tasks = [budget.reserve() for _ in range(8)]

    def grow(task) -> None:
        for _ in range(1000):
            task.grow(1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(grow, tasks))
    assert budget.used == 8000
    with pytest.raises(ServerBusy):
        tasks[0].grow(1)


@pytest.fixture
def shared(now) -> IngestBudget:
    return IngestBudget(limit=100, max_queue=4, share=0.5, clock=lambda: now[0])


def test_a_client_with_its_share_of_the_queue_leaves_places_to_others(shared):
    for seconds in (7, 9):
        shared.reserve("flood").expect(seconds)
    with pytest.raises(ClientLimit, match=r"flood has 2 tasks waiting.*cancel it") as refused:
        shared.reserve("flood")
    assert refused.value.retry_after == 7
    shared.reserve("other")
    shared.reserve("third")


def test_a_client_with_its_share_of_the_budget_waits_for_its_own_tasks_alone(shared):
    other, first, second = shared.reserve("other"), shared.reserve("flood"), shared.reserve("flood")
    other.grow(10)
    other.expect(3)
    first.grow(30)
    first.expect(40)
    second.grow(20)
    with pytest.raises(ClientLimit, match="50 bytes of unlearned data that one client may") as refused:
        second.grow(1)
    assert refused.value.retry_after == 40
    other.grow(40)
    first.release()
    second.grow(30)


def test_a_task_beyond_the_share_of_one_client_will_never_fit(shared):
    with pytest.raises(TaskTooLarge, match="larger --client-ingest-share"):
        shared.reserve("flood").grow(51)
