"""Teaching a task: the upload, and the handle by which a task is followed and ended."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from memory_api.v1 import memory_pb2 as pb

from memory_client import _decode
from memory_client._lesson import Lesson, Resending, goes_on, learned, not_in_time, not_reported, watching
from memory_client._outbox import Outbox
from memory_client._relay import Reading, Relay, persistent
from memory_client.channel import Connection
from memory_client.errors import InvalidInput, ServerBusy, ServerUnavailable, UnknownMemory, as_rejection
from memory_client.progress import ProgressListener, Quiet
from memory_client.types import Task, TaskState, Until


class TaskHandle:
    """One task of a memory, wherever it was started: follow it, wait for it, cancel it.

    Asking for anything asks the server; the handle itself only knows names.
    """

    def __init__(self, connection: Connection, memory: str, name: str) -> None:
        self._connection = connection
        self.memory = memory
        self.name = name

    def __repr__(self) -> str:
        return f"TaskHandle({self._connection.target!r}, memory={self.memory!r}, name={self.name!r})"

    @property
    def task(self) -> Task:
        """The task as it is now. Raises UnknownTask, UnknownMemory."""
        request = pb.GetTaskRequest(memory=self.memory, task=self.name)
        return _decode.task(self._connection.unary("GetTask", request))

    @property
    def state(self) -> TaskState:
        """Where the task stands now."""
        return self.task.state

    def watch(self, *, until: Until = "final") -> Iterator[Task]:
        """The task now, then whenever it changes or makes progress, until its final state has been given.

        Arguments:
            until: "consolidated" goes on after LEARNED, until sleep has consolidated the task.

        Raises:
            UnknownTask, UnknownMemory: it is not there, or was deleted while being watched.
            CannotSleep: the memory is of a kind that never consolidates it.
            ServerUnavailable: the server stayed away for `reconnect` seconds.
        """
        return self._reading(watching(self.memory, self.name, until))

    def result(self, timeout: float | None = None) -> Task:
        """Waits until the task is learned.

        Arguments:
            timeout: seconds to wait at most; None waits as long as the server is alive.

        Raises:
            TaskFailed, QualityTooLow, TaskCancelled: it ended without being learned; the memory is as it was.
            TaskInterrupted, WorkerDied, WorkerSilent: likewise, and sent again it may be learned.
            DeadlineExceeded: it is not finished; it goes on.
        """
        return self._follow(Quiet().task, timeout)

    def cancel(self) -> Task:
        """Cancels the task and has its data wiped. Raises TaskFinished when it is too late."""
        request = pb.CancelTaskRequest(memory=self.memory, task=self.name)
        return _decode.task(self._connection.unary("CancelTask", request))

    def show(self, listener: ProgressListener) -> Task:
        """Like `result`, telling a listener what happens; an interrupt leaves the task running and says so."""
        try:
            return self._follow(listener.task, None)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(goes_on(self.name, self._connection.target))
            raise
        finally:
            listener.close()

    def _reading(self, request: pb.WatchTaskRequest) -> Reading[Task]:
        connection = self._connection

        def source(relay: Relay[Any]) -> Iterator[Task]:
            return persistent(relay, connection, lambda: connection.stub.WatchTask(request), _decoded)

        return Reading(connection, source, 2)

    def _follow(self, seen: Callable[[Task], None], timeout: float | None) -> Task:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._reading(watching(self.memory, self.name, "final")) as snapshots:
            for task in snapshots.until(deadline):
                seen(task)
                if task.state.final:
                    return learned(task)
            closed = snapshots.closed
        if timeout is not None and deadline is not None and time.monotonic() >= deadline:
            raise not_in_time(self.name, timeout)
        raise not_reported(self.name, closed)


class Upload:
    """Sends one task: the caller's thread iterates the stream, so that its exceptions, and an interrupt, arrive there.

    Arguments:
        header: what is said before the data; its spec is filled in from the first batch.
        listener: told how much has been sent.
    """

    def __init__(self, connection: Connection, header: pb.LearnTaskHeader, listener: ProgressListener) -> None:
        self._connection = connection
        self._header = header
        self._listener = listener

    def send(self, stream: Any) -> Task:
        """Uploads a stream, again while the server is busy or away, if the stream can be iterated again.

        Raises:
            TaskRejected: the server refused the data.
            InvalidInput: the data cannot be sent.
            ServerBusy, ServerUnavailable: it stayed so for `reconnect` seconds, or the stream can be read only once.
        """
        resending = Resending(stream, self._connection.reconnect)
        self._knock()
        while True:
            try:
                return self._attempt(stream)
            except (ServerBusy, ServerUnavailable) as error:
                time.sleep(resending.next_pause(error))

    def _knock(self) -> None:
        """Sees that a server answers before a stream that can be read only once is touched."""
        with contextlib.suppress(UnknownMemory):
            self._connection.unary("GetMemory", pb.GetMemoryRequest(name=self._header.memory, brief=True))

    def _attempt(self, stream: Any) -> Task:
        messages = Lesson(self._header, self._listener).of(stream)
        first = next(messages)  # before the call is made: what is no batch costs none
        outbox: Outbox[pb.Task] = Outbox(self._connection, self._connection.stub.LearnTask)
        try:
            outbox.put(first)
            for message in messages:
                outbox.put(message)
            return _decode.task(outbox.reply())
        except InvalidInput as error:
            if error.status is None:
                raise
            raise as_rejection(error) from None
        finally:
            outbox.close()


def _decoded(message: pb.Task) -> Iterator[Task]:
    yield _decode.task(message)
