"""Teaching over the wire: the upload, its interruptions, and following a task."""

import io
import threading
import time

import grpc
import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub
from memory_client import (
    DeadlineExceeded,
    InvalidInput,
    QualityTooLow,
    ServerBusy,
    ServerUnavailable,
    TaskCancelled,
    TaskFailed,
    TaskFinished,
    TaskInterrupted,
    TaskRejected,
    TaskState,
    UnknownTask,
    WorkerDied,
    WorkerSilent,
)
from memory_client.progress import TextProgress, describe, listener
from memory_client.types import Task, TaskProgress

IMAGES = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
INTERRUPTIONS = {"TASK_INTERRUPTED": TaskInterrupted, "WORKER_DIED": WorkerDied, "WORKER_SILENT": WorkerSilent}


def lesson(memory, service, **changes):
    """A task that is at the server, in a state of its own."""
    memory.learn_task((IMAGES, [0, 1, 2] * 2), task="t0", progress=False)
    task = service.lessons["t0"].task
    for name, value in changes.items():
        setattr(task, name, value)
    return task


def test_learning_returns_the_finished_task(memory, service):
    task = memory.learn_task((IMAGES, [3, 1, 3, 1, 3, 1]), task="t0", steps=7, seconds=2.5, min_quality=0.5)

    assert (task.state, task.classes, task.count, task.quality) == (TaskState.LEARNED, (3, 1), 6, 0.96)
    arrived = service.lessons["t0"]
    assert arrived.x == IMAGES.tobytes()
    assert arrived.labels == [3, 1, 3, 1, 3, 1]
    assert (arrived.header.steps, arrived.header.seconds, arrived.header.min_quality) == (7, 2.5, 0.5)
    assert not arrived.header.HasField("count")


def test_what_is_left_out_stays_out_of_the_header(memory, service):
    memory.learn_task((IMAGES, [0] * 6), progress=False)

    header = service.lessons["t0"].header
    assert not any(header.HasField(name) for name in ("steps", "seconds", "min_quality", "count"))
    assert (header.kind, len(header.options), len(header.classes)) == ("", 0, 0)


def test_kind_options_and_expected_classes_reach_the_server(server, service):
    from memory_client import Memory

    with Memory(server.target, "digits", kind="dgmw", options={"seed": 3, "grow": True}) as memory:
        memory.learn_task((IMAGES, ["a", "b"] * 3), classes=["b", "a"], progress=False)

    header = service.lessons["t0"].header
    assert (header.kind, dict(header.options)) == ("dgmw", {"seed": "3", "grow": "true"})
    assert [label.text for label in header.classes] == ["b", "a"]


def test_data_travels_in_chunks_of_at_most_512_kib(memory, service):
    x = np.random.default_rng(0).integers(0, 256, (3000, 1, 28, 28), np.uint8)
    y = np.arange(3000) % 10

    memory.learn_task(((x[at : at + 100], y[at : at + 100]) for at in range(0, 3000, 100)), progress=False)

    arrived = service.lessons["t0"]
    assert arrived.x == x.tobytes()
    assert arrived.labels == y.tolist()
    assert all(256 * 1024 <= size <= 512 * 1024 for size in arrived.chunk_bytes[:-1])


def test_a_stream_that_raises_ends_the_call_and_raises_the_same(memory, service):
    class Mine(Exception):
        pass

    def stream():
        yield IMAGES, [0] * 6
        raise Mine("the disk is gone")

    with pytest.raises(Mine, match="the disk is gone"):
        memory.learn_task(stream(), progress=False)
    assert service.lessons == {}


def test_a_stream_that_raises_after_much_data_cancels_the_call(memory, service):
    def stream():
        for _ in range(40):
            yield np.zeros((1024, 1, 32, 32), np.uint8), np.zeros(1024, int)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.learn_task(stream(), progress=False)
    assert service.cancelled.wait(5)
    assert service.lessons == {}


def test_no_thread_of_an_upload_outlives_it(memory, service):
    service.faults.refuse = "an image has 1 or 3 channels"
    before = threading.active_count()
    for _ in range(5):
        with pytest.raises(TaskRejected):
            memory.learn_task(iter([(np.zeros((9000, 1, 32, 32), np.uint8), np.zeros(9000, int))]), progress=False)
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before + 2


def test_no_data_is_sent_before_the_server_has_accepted_what_it_is(memory, service, server):
    service.faults.slow = 0.5
    memory.learn_task((IMAGES, [0, 1, 2] * 2), task="t0", progress=False)
    assert service.early is False
    assert service.lessons["t0"].x == IMAGES.tobytes()
    with grpc.insecure_channel(server.target) as channel:  # one that does not wait
        requests = [pb.LearnTaskRequest(header=pb.LearnTaskHeader(task="t1")), pb.LearnTaskRequest()]
        with pytest.raises(grpc.RpcError):
            MemoryServiceStub(channel).LearnTask(iter(requests), timeout=10)
    assert service.early is True


def test_a_refusal_names_the_field(memory, service):
    service.faults.refuse = "an image has 1 or 3 channels, not 4"

    with pytest.raises(TaskRejected, match="1 or 3 channels") as caught:
        memory.learn_task((IMAGES, [0] * 6), progress=False)
    assert [violation.field for violation in caught.value.field_violations] == ["header.spec"]
    assert isinstance(caught.value, InvalidInput)


def test_an_endless_stream_stops_at_the_refusal(memory, service):
    service.faults.refuse = "no"

    def endless():
        while True:
            yield np.zeros((512, 1, 32, 32), np.uint8), np.zeros(512, int)

    with pytest.raises(TaskRejected):
        memory.learn_task(endless(), progress=False)


@pytest.mark.parametrize("stream", [(IMAGES[:0], []), [], iter([])])
def test_a_stream_without_rows_is_refused(memory, service, stream):
    with pytest.raises(InvalidInput, match="no rows"):
        memory.learn_task(stream)
    assert service.requests == []


def test_a_busy_server_is_asked_again(memory, service):
    service.faults.busy = 2

    assert memory.learn_task((IMAGES, [0] * 6), progress=False).state is TaskState.LEARNED
    assert service.requests.count("LearnTask") == 3


def test_a_generator_cannot_be_sent_again(memory, service):
    service.faults.busy = 1

    with pytest.raises(ServerBusy, match=r"Try again in 0\.05 s") as caught:
        memory.learn_task(iter([(IMAGES, [0] * 6)]), progress=False)
    assert caught.value.retry_after == pytest.approx(0.05)


def test_a_server_that_asks_for_longer_than_reconnect_is_not_waited_for(memory, service):
    service.faults.busy, service.faults.retry_after = 1, 60

    with pytest.raises(ServerBusy):
        memory.learn_task((IMAGES, [0] * 6), progress=False)


@pytest.mark.parametrize(("why", "error"), list(INTERRUPTIONS.items()))
def test_a_task_whose_server_or_worker_went_is_sent_again_by_itself_but_not_for_ever(memory, service, why, error):
    service.faults.why, service.faults.interrupted = why, 2
    shown = io.StringIO()
    assert memory.learn_task((IMAGES, [0] * 6), progress=TextProgress(shown)).count == 6
    assert service.requests.count("LearnTask") == 3
    assert shown.getvalue().count("t0: FAILED, the why") == 2, "each time its user sees it"

    service.faults.interrupted = 1000
    with pytest.raises(error, match="the why"):
        memory.learn_task((IMAGES, [0] * 6), progress=False)
    assert service.requests.count("LearnTask") == 3 + 6


@pytest.mark.parametrize(
    "why", ["OUT_OF_MEMORY", "TASK_TIMED_OUT", "QUALITY_TOO_LOW", "TRAINING_DIVERGED", "CANNOT_LEARN", ""]
)
def test_a_task_that_failed_by_its_own_doing_is_not_sent_again(memory, service, why):
    service.faults.why, service.faults.interrupted = why, 1
    with pytest.raises(TaskFailed) as error:
        memory.learn_task((IMAGES, [0] * 6), progress=False)
    assert not isinstance(error.value, TaskInterrupted) and error.value.reason == why
    assert service.requests.count("LearnTask") == 1


def test_a_generator_whose_server_stopped_is_left_to_its_user(memory, service):
    service.faults.interrupted = 1
    with pytest.raises(TaskInterrupted):
        memory.learn_task(iter([(IMAGES, [0] * 6)]), progress=False)
    assert service.requests.count("LearnTask") == 1


def test_a_server_that_stays_busy_is_given_up(memory, service):
    service.faults.busy, memory._connection.reconnect = 1000, 0.2

    with pytest.raises(ServerBusy):
        memory.learn_task((IMAGES, [0] * 6), progress=False)
    assert 2 <= service.requests.count("LearnTask") <= 6


def test_without_a_server_the_stream_is_not_touched(memory, server):
    server.stop()
    memory._connection.reconnect = 0.3
    touched = []

    with pytest.raises(ServerUnavailable, match="memory-server serve"):
        memory.learn_task((touched.append(i) for i in range(3)), progress=False)
    assert touched == []


def test_a_handle_follows_a_task(memory, service):
    handle = memory.learn_task((IMAGES, [0] * 6), wait=False, progress=False)
    progress = pb.TaskProgress(
        phase="generator", step=3, steps=10, fraction=0.25, seconds_left=9, metrics={"loss": 0.5}
    )
    service.states = [
        pb.Task(memory="digits", task="t0", state=pb.QUEUED, waiting_for="queued behind task t9 of memory m"),
        pb.Task(memory="digits", task="t0", state=pb.LEARNING, progress=progress),
    ]

    seen = list(handle.watch())

    assert [task.state for task in seen] == ["QUEUED", "LEARNING", "LEARNED"]
    assert seen[0].waiting_for == "queued behind task t9 of memory m"
    assert seen[1].progress == TaskProgress("generator", 3, 10, 0.25, 9.0, {"loss": 0.5})
    assert handle.state is TaskState.LEARNED
    assert handle.result(timeout=5).revision == 1
    assert "t0" in repr(handle)


def test_a_watch_that_breaks_is_taken_up_again(memory, service):
    lesson(memory, service)
    service.faults.watch_lost = 2

    assert memory.task("t0").result(timeout=10).state is TaskState.LEARNED
    assert service.faults.watch_lost == 0


def test_waiting_ends_at_its_timeout_and_leaves_the_task(memory, service):
    lesson(memory, service, state=pb.LEARNING)
    service.states, service.faults.silent = [service.lessons["t0"].task], True

    with pytest.raises(DeadlineExceeded, match="goes on"):
        memory.task("t0").result(timeout=0.2)
    assert memory.task("t0").state is TaskState.LEARNING


def test_waiting_for_a_silent_server_fails(memory, service):
    lesson(memory, service)
    service.faults.silent, memory._connection.silence = True, 0.3

    with pytest.raises(ServerUnavailable, match="silent"):
        memory.task("t0").result()


@pytest.mark.parametrize(
    ("state", "reason", "error"),
    [
        (pb.FAILED, "QUALITY_TOO_LOW", QualityTooLow),
        *((pb.FAILED, why, error) for why, error in INTERRUPTIONS.items()),
        (pb.FAILED, "", TaskFailed),
        (pb.CANCELLED, "", TaskCancelled),
    ],
)
def test_a_task_that_was_not_learned_raises_its_reason(memory, service, state, reason, error):
    lesson(memory, service, state=state, error_reason=reason, error="the why")

    with pytest.raises(error, match="was cancelled" if state == pb.CANCELLED else "the why"):
        memory.task("t0").result()


def test_an_interrupt_while_waiting_leaves_the_task_and_says_how_to_go_on(memory, service):
    lesson(memory, service)

    class Interrupting(TextProgress):
        def task(self, task):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        memory.learn_task((IMAGES, [0, 1, 2] * 2), progress=Interrupting(io.StringIO()))
    assert "memory.task('t0').watch()" in caught.value.__notes__[0]
    assert service.lessons["t0"].task.state == pb.LEARNED


def test_cancelling(memory, service):
    lesson(memory, service)
    with pytest.raises(TaskFinished):
        memory.task("t0").cancel()
    service.lessons["t0"].task.state = pb.QUEUED
    assert memory.task("t0").cancel().state is TaskState.CANCELLED


def test_a_task_that_is_not_there_is_told_when_asked_for(memory):
    with pytest.raises(UnknownTask, match="no task 't5'"):
        memory.task("t5").state  # noqa: B018


def test_progress_is_one_line_rewritten(memory, service):
    shown = io.StringIO()
    x = np.zeros((3000, 1, 28, 28), np.uint8)

    memory.learn_task((x, np.zeros(3000, int)), progress=TextProgress(shown))

    lines = shown.getvalue().split("\r")
    assert lines[1].startswith("uploading: ")
    assert "uploading: 3000 examples, 2.4 MB" in [line.rstrip() for line in lines]
    assert lines[-1].endswith("\n")
    assert lines[-1].startswith("t0: LEARNED in 1.5 s, quality 0.960")


def test_progress_is_shown_on_a_terminal_only_unless_asked_for(capsys):
    assert not isinstance(listener(None), TextProgress)
    assert isinstance(listener(True), TextProgress)
    assert not isinstance(listener(False), TextProgress)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Task("m", "t", TaskState.QUEUED, waiting_for="queued behind t0"), "t: QUEUED, queued behind t0"),
        (
            Task("m", "t", TaskState.QUEUED, waiting_for="queued behind t0", queue_position=2, starts_in=70.0),
            "t: QUEUED, queued behind t0, number 2 in the queue, starts in about 70 s",
        ),
        (Task("m", "t", TaskState.QUEUED), "t: QUEUED"),
        (
            Task("m", "t", TaskState.LEARNING, progress=TaskProgress("solver", 1, 2, 0.5, 12.4)),
            "t: LEARNING solver 50%, 12 s left",
        ),
        (Task("m", "t", TaskState.LEARNING, progress=TaskProgress("solver", 1, 2, 0.5)), "t: LEARNING solver 50%"),
        (
            Task("m", "t", TaskState.LEARNING, progress=TaskProgress("generator", 1, 2, 0.5, resumed_from_step=70)),
            "t: LEARNING generator 50%, resumed from step 70",
        ),
        (Task("m", "t", TaskState.COMMITTING), "t: COMMITTING"),
        (Task("m", "t", TaskState.FAILED, error="diverged"), "t: FAILED, diverged"),
    ],
)
def test_a_task_is_described_in_one_line(task, text):
    assert describe(task) == text


@pytest.mark.parametrize(
    ("least", "warned"), [(0.0, True), (0.2, True), (-0.1, False)], ids=["from 0", "above 0", "from below 0"]
)
def test_images_that_look_scaled_to_0_to_1_are_learned_with_a_warning(memory, recwarn, least, warned):
    x = np.linspace(least, 1, 6 * 64, dtype=np.float32).reshape(6, 1, 8, 8)
    memory.learn_task(((x[i : i + 2], [0, 1]) for i in (4, 2, 0)), progress=False)
    assert ["2 * x - 1" in str(each.message) for each in recwarn] == [True] * warned


def test_vectors_above_zero_are_learned_without_a_word(memory, recwarn):
    memory.learn_task((np.ones((6, 5), np.float32), [0, 1] * 3), progress=False)
    assert not recwarn.list
