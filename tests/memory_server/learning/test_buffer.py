import errno
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgm_core.manifest import DataSpec
from memory_server.errors import ServerBusy, TaskTooLarge
from memory_server.learning.admission import IngestBudget
from memory_server.learning.buffer import IngestBuffer

VECTOR = DataSpec((3,), "float32")


def labels(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int32)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(chunks=st.lists(st.integers(0, 9), max_size=6))
def test_the_chunks_lie_one_after_the_other(admission, chunks):
    x = [np.random.default_rng(i).normal(size=(rows, 3)).astype(np.float32) for i, rows in enumerate(chunks)]
    with IngestBuffer(VECTOR, admission.reserve()) as buffer:
        for chunk in x:
            buffer.append(chunk.tobytes(), labels(len(chunk)))
        assert buffer.count == sum(chunks)
        assert os.pread(buffer.x_fd, 1 << 20, 0) == b"".join(chunk.tobytes() for chunk in x)
        assert os.pread(buffer.y_fd, 1 << 20, 0) == b"".join(labels(rows).tobytes() for rows in chunks)
        assert admission.used == buffer.count * 16
    assert admission.used == 0


def test_wiping_overwrites_the_data_before_it_lets_go(admission, monkeypatch):
    """Whoever maps the memory while it is wiped sees zeros, not the data: nothing relies on the kernel alone."""
    buffer = IngestBuffer(VECTOR, admission.reserve())
    buffer.append(b"SECRET_ROWS!" * 100_000, labels(100_000))
    seen = []

    def truncate(descriptor, size, really=os.ftruncate):
        seen.append(os.pread(descriptor, 1 << 22, 0))
        really(descriptor, size)

    monkeypatch.setattr("memory_server.learning.buffer.os.ftruncate", truncate)
    buffer.wipe()
    assert seen == [bytes(1_200_000), bytes(400_000)]


def test_nothing_is_left_for_another_descriptor_of_the_same_memory(admission):
    buffer = IngestBuffer(VECTOR, admission.reserve())
    buffer.append(b"SECRET_ROWS!" * 10, labels(10))
    others = [os.dup(buffer.x_fd), os.dup(buffer.y_fd)]
    buffer.wipe()
    buffer.wipe()
    assert [os.fstat(other).st_size for other in others] == [0, 0]
    for descriptor in others:
        os.close(descriptor)
    for descriptor in (buffer.x_fd, buffer.y_fd):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize("made", [0, 1])
def test_where_the_system_gives_no_memory_nobody_keeps_a_place_in_the_queue(made, monkeypatch):
    budget, descriptors = IngestBudget(1 << 20, max_queue=1), []

    def memfd_create(name, really=os.memfd_create):
        if len(descriptors) == made:
            raise OSError(errno.EMFILE, "Too many open files")
        descriptors.append(really(name))
        return descriptors[-1]

    with monkeypatch.context() as patch:
        patch.setattr("memory_server.learning.buffer.os.memfd_create", memfd_create)
        with pytest.raises(ServerBusy, match="no place for more data: Too many open files") as refusal:
            IngestBuffer(VECTOR, budget.reserve())
    assert refusal.value.retry_after > 0
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    IngestBuffer(VECTOR, budget.reserve()).wipe()


def test_a_wiped_buffer_takes_nothing_more(admission):
    buffer = IngestBuffer(VECTOR, admission.reserve())
    buffer.wipe()
    with pytest.raises(ValueError, match="wiped"):
        buffer.append(bytes(12), labels(1))


def test_a_late_append_never_reaches_a_descriptor_that_belongs_to_someone_else(admission, tmp_path):
    buffer = IngestBuffer(VECTOR, admission.reserve())
    numbers = {buffer.x_fd, buffer.y_fd}

    def append() -> None:
        for _ in range(2000):
            buffer.append(b"SECRET_ROWS!", labels(1))

    with ThreadPoolExecutor(1) as pool:
        appending = pool.submit(append)
        buffer.wipe()
        files = [(tmp_path / str(index)).open("wb") for index in range(4)]
        assert numbers <= {file.fileno() for file in files}
        assert isinstance(appending.exception(), ValueError)
    for file in files:
        file.close()
    assert [(tmp_path / str(index)).read_bytes() for index in range(4)] == [b""] * 4


@pytest.mark.parametrize(
    ("x", "y"), [(bytes(11), labels(1)), (bytes(12), labels(2)), (bytes(12), np.zeros(1, dtype=np.int64))]
)
def test_rows_that_do_not_fit_are_refused(admission, x, y):
    with IngestBuffer(VECTOR, admission.reserve()) as buffer, pytest.raises(ValueError, match="bytes of x"):
        buffer.append(x, y)


def test_what_the_budget_refuses_is_not_added(admission):
    with IngestBuffer(VECTOR, admission.reserve()) as buffer:
        buffer.append(bytes(12), labels(1))
        with pytest.raises(TaskTooLarge):
            buffer.append(bytes(12 * 400_000), labels(400_000))
        assert buffer.count == 1
        assert os.fstat(buffer.x_fd).st_size == 12
