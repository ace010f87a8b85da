"""A generative memory on a server, as a learner uses it."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy.typing import DTypeLike, NDArray

from memory_client import _decode
from memory_client._lesson import Interruptions
from memory_client._outbox import Outbox
from memory_client._relay import Reading, Relay
from memory_client._requests import Classes, Requests, labelled
from memory_client._streaming import batches, collect
from memory_client._transfer import Download, upload
from memory_client.channel import Connection
from memory_client.credentials import PEM, Credentials
from memory_client.errors import MemoryClosed, TaskInterrupted, UnknownMemory
from memory_client.interpolation import Ends
from memory_client.learning import TaskHandle, Upload
from memory_client.progress import ProgressListener, SleepListener, TransferListener, listener
from memory_client.sampling import Batch, Rebatcher
from memory_client.sleeping import follow_sleep
from memory_client.types import Label, Layout, MemoryInfo, Precision, Task

_AHEAD = 2  # messages of an export that may wait for the disk


class Memory:
    """A named memory on a server: it learns tasks, forgets none by itself, and samples what it learned.

        memory = Memory("localhost:50051", name="digits")
        memory.learn_task((x, y), task="t0")
        x, y = memory.sample(classes=[0, 1], n=64)
        for x, y in memory.stream(batch_size=128): ...

    Making one calls nobody: the connection is made when it is first needed, once in each process, so that a Memory may
    be pickled and may be carried through a fork. Threads may share one. A `with` closes the connection early.

    Arguments:
        target: address of the server, "host:port" or "unix:/path/of/socket".
        name: of the memory; the first `learn_task` creates it.
        kind: of the memory, such as "dgmw"; takes effect when it is created, and must be its own when it is taught.
        options: of the kind, likewise; values may be anything whose text the server understands.
        timeout: deadline of a single call, in seconds; streams and waits are bounded by the server's heartbeat instead.
        reconnect: how long a server that does not answer is tried again, in seconds; then ServerUnavailable.
        shared_memory: whether a server on this host may put samples into memory that streams offer it, instead of
            sending them; samples are the same.
        token: as `memory-server token add` printed it, where the server asks for one.
        ca: PEM certificates of the authorities that the server's certificate may come from: a path, or the content as
            bytes. Given, TLS is spoken; None speaks plaintext.
        certificate, key: PEM certificate and private key of this client, likewise, where the server asks for them.

    Certificates are read here, once. A pickled Memory carries its token and its key.

    Every method that calls the server raises ServerUnavailable or DeadlineExceeded where nobody answers, TlsFailed
    where its certificate is not to be trusted, NotAuthenticated without a valid token, NotAllowed where the token has
    no right to it, and UnknownMemory where the memory does not exist.
    """

    def __init__(
        self,
        target: str = "localhost:50051",
        name: str = "default",
        kind: str | None = None,
        options: Mapping[str, object] | None = None,
        timeout: float = 30.0,
        reconnect: float = 10.0,
        shared_memory: bool = True,
        token: str | None = None,
        ca: PEM | None = None,
        certificate: PEM | None = None,
        key: PEM | None = None,
    ) -> None:
        self.name = name
        self._requests = Requests.to(name, kind, options)
        credentials = Credentials.read(target, token, ca, certificate, key)
        self._connection = Connection(target, timeout, reconnect, shared_memory=shared_memory, credentials=credentials)

    def __repr__(self) -> str:
        return f"Memory({self.target!r}, name={self.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def target(self) -> str:
        """Address of the server."""
        return self._connection.target

    def close(self) -> None:
        """Closes the connection of this process and ends its streams; a later call opens a new one.

        Another thread that samples or exports, or waits for a task or a sleep, gets MemoryClosed.
        """
        self._connection.close()

    @overload
    def learn_task(
        self,
        stream: Any,
        task: str = ...,
        *,
        steps: int | None = ...,
        seconds: float | None = ...,
        min_quality: float | None = ...,
        erasable: bool = ...,
        revises: str | None = ...,
        classes: Classes = ...,
        wait: Literal[True] = ...,
        progress: bool | ProgressListener | None = ...,
    ) -> Task: ...

    @overload
    def learn_task(
        self,
        stream: Any,
        task: str = ...,
        *,
        steps: int | None = ...,
        seconds: float | None = ...,
        min_quality: float | None = ...,
        erasable: bool = ...,
        revises: str | None = ...,
        classes: Classes = ...,
        wait: Literal[False],
        progress: bool | ProgressListener | None = ...,
    ) -> TaskHandle: ...

    def learn_task(
        self,
        stream: Any,
        task: str = "t0",
        *,
        steps: int | None = None,
        seconds: float | None = None,
        min_quality: float | None = None,
        erasable: bool = False,
        revises: str | None = None,
        classes: Classes = None,
        wait: bool = True,
        progress: bool | ProgressListener | None = None,
    ) -> Task | TaskHandle:
        """Teaches the memory one task. The server keeps none of the data.

        The stream is a pair of arrays (x, y), or anything that yields such pairs as batches: a list, a generator, a
        DataLoader. Images x are (n, C, H, W), uint8 or floats in [-1, 1]; vectors are floats (n, F). Labels y are (n,),
        integers or strings. Arrays and tensors of any framework and device are taken.

        Repeating a call with the same data is safe: it gives the same task. While the server is busy or away, a stream
        that can be iterated again is sent again for up to `reconnect` seconds; a generator is not. With wait=True it is
        sent again, too, when the server, or its process that learns, stops, crashes or hangs, up to five times.

        Arguments:
            task: its name in the memory: letters, digits, ".", "_" and "-".
            steps: bounds the generator's training steps, and those of the task solver, which takes at least 20; None
                leaves both to the server's recipe.
            seconds: bounds the whole task, but for the fewest steps and measurements that it needs; None likewise.
            min_quality: reverse accuracy in [0, 1] below which the task fails instead of being kept.
            erasable: no later task may reuse what this one reserves, so that `forget` can always take it alone.
            revises: name of the task that this one repeats, with more or other data of it; None: it repeats none. For
                memories of a kind that repeats tasks, such as "dual".
            classes: an expectation: exactly these classes occur, or the task is rejected.
            wait: whether to wait until the task is learned. An interrupt while waiting leaves it running on the server.
            progress: True shows a line of progress on the error stream, False nothing, None only on a terminal.

        Returns:
            The learned task, or with wait=False a handle as soon as the server has all the data.

        Raises:
            InvalidInput, TaskRejected: the data is malformed; the message names the field and the fix.
            TaskExists: the memory learned other data under this name.
            UnknownTask: `revises` names no task of the memory.
            MemoryMismatch: the memory exists with another kind or other options.
            TaskFailed, QualityTooLow, TaskCancelled: it ended without being learned; the memory is as it was.
            TaskInterrupted, WorkerDied, WorkerSilent: the server, or its process that learned, stopped, crashed or
                hung, and the stream can be read only once, or it has happened too often.
            ServerBusy, TaskTooLarge: the server cannot take the data now, or ever.
            Whatever iterating the stream raises: the server then keeps nothing.
        """
        header = self._requests.learn_header(
            task,
            steps=steps,
            seconds=seconds,
            min_quality=min_quality,
            erasable=erasable,
            revises=revises,
            classes=classes,
        )
        shown = listener(progress)
        try:
            interruptions = Interruptions(stream)
            while True:
                admitted = Upload(self._connection, header, shown).send(stream)
                handle = TaskHandle(self._connection, self.name, admitted.name)
                if not wait:
                    return handle
                try:
                    return handle.show(shown)
                except TaskInterrupted as error:
                    interruptions.bear(error)
        finally:
            shown.close()

    def sample(
        self,
        classes: Classes = None,
        n: int = 64,
        *,
        seed: int | None = None,
        tasks: str | Sequence[str] | None = None,
        revision: int | None = None,
        dtype: DTypeLike | None = None,
        layout: Layout | None = None,
        size: tuple[int, int] | None = None,
        precision: Precision = "full",
    ) -> Batch:
        """Draws n synthetic examples, balanced over the classes to ±1.

        Arguments:
            classes: what to sample; None for all that was learned.
            n: examples in total, from 1 to the server's limit.
            seed: the same seed gives the same bytes of the same classes and revision, whatever else the server does;
                None draws afresh. Another task may bring both others: name the classes, or the revision.
            tasks: only what these tasks taught; None for all.
            revision: of the memory; None for the newest.
            dtype: "uint8" (0 to 255), "float32" or "float16" ([-1, 1]) for images, "float32" or "float16" for vectors;
                None for uint8 images and float32 vectors.
            layout: of images: "NCHW" or "NHWC"; None for NCHW.
            size: (height, width) to resize images to, each from 8 to 1024; None leaves them as learned.
            precision: "reduced" has the server compute in bfloat16 where its device is faster so: the same examples,
                images a fraction of a grey level away on average.

        Returns:
            x (n, C, H, W), (n, H, W, C) or (n, F), and y (n,) as int64 or, for classes that are strings, as unicode.

        Raises:
            UnknownClass, UnknownTask, UnknownRevision: the message lists the known ones.
            EmptyMemory: nothing has been learned yet.
            InvalidInput: n or the seed is out of bounds, or x cannot be given so.
        """
        reader, rows = self._requests.sample(
            n,
            classes=classes,
            seed=seed,
            tasks=tasks,
            revision=revision,
            dtype=dtype,
            layout=layout,
            size=size,
            precision=precision,
        )
        return collect(self._connection, reader, rows)

    def stream(
        self,
        classes: Classes = None,
        batch_size: int = 128,
        *,
        seed: int | None = None,
        start_at: int = 0,
        stride: int = 1,
        tasks: str | Sequence[str] | None = None,
        revision: int | None = None,
        dtype: DTypeLike | None = None,
        layout: Layout | None = None,
        size: tuple[int, int] | None = None,
        precision: Precision = "full",
        n: int | None = None,
    ) -> Reading[Batch]:
        """Batches of synthetic examples without end, prefetched by a thread, each balanced over the classes to ±1.

        Leaving the loop, dropping the iterator, its `close()` or a `with` ends the stream. A stream that breaks is
        resumed where it broke, with nothing lost or repeated in a seeded one, which also pins its revision; an unseeded
        one follows the newest revision, and new classes join it if `classes` and `tasks` are None.

        Arguments:
            batch_size: rows of each batch, 1 to 65536.
            start_at: the first batch to give, counted from 0: how a seeded stream is resumed by another process.
            stride: gives every stride-th batch from `start_at` on: how k processes share a seeded stream, each with
                `start_at` of its own. Every batch is what it is without a stride.
            n: rows in total, skipped ones included, after which the stream ends, the last batch holding what remains;
                None never ends.
            classes, seed, tasks, revision, dtype, layout, size, precision: as for `sample`.

        Yields:
            (x, y) as from `sample`; the arrays belong to the caller.

        Raises:
            As `sample` does, when iterated; ServerUnavailable also when the server is silent for 60 seconds.
        """
        request = self._requests.stream(
            *(batch_size, start_at, stride, n),
            classes=classes,
            seed=seed,
            tasks=tasks,
            revision=revision,
            dtype=dtype,
            layout=layout,
            size=size,
            precision=precision,
        )
        return batches(self._connection, request, Rebatcher.of_sample(request))

    def interpolate(
        self,
        start: str | None,
        end: str,
        weights: float | Sequence[float] | NDArray[Any] = 0.5,
        n: int = 64,
        *,
        seed: int | None = None,
        classes: Ends = (None, None),
        groups: str | Sequence[str] | None = None,
        layers: str | Sequence[str] | None = None,
        revision: int | None = None,
        dtype: DTypeLike | None = None,
        layout: Layout | None = None,
        size: tuple[int, int] | None = None,
    ) -> NDArray[Any]:
        """Draws what lies between two tasks: their style parameters are blended, the same noise for every weight.

        Arguments:
            start: a task; None or "" for the frozen base itself.
            end: a task; the same one with another class is possible.
            weights: one, or up to 256: 0 is `start`, 1 is `end`.
            n: examples of each weight.
            classes: one class of each end; None takes the first that the task learned.
            groups: what is blended, of "scale", "shift" and "bias"; the rest stays that of `start`. None: all.
            layers: in which layers, by the names in `describe().analysis`; the others stay those of `start`. None: all.
            seed, revision, dtype, layout, size: as for `sample`.

        Returns:
            x (weights, n, *shape), where x[:, i] is one picture that changes; for a single number (n, *shape).

        Raises:
            CannotInterpolate: a memory of this kind has no styles to blend.
            InvalidInput: a weight, a group or a layer is not there. Otherwise as `sample` does.
        """
        reader, total, shape = self._requests.interpolate(
            *(start, end, weights, n),
            seed=seed,
            classes=classes,
            groups=groups,
            layers=layers,
            revision=revision,
            dtype=dtype,
            layout=layout,
            size=size,
        )
        x, _ = collect(self._connection, reader, total)
        return x.reshape(*shape, *x.shape[1:])

    def classify(self, x: Any, task: str | None = None) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Labels examples with the memory's own task solver, a single head over all classes learned so far.

        Arguments:
            x: (n, C, H, W) images, uint8 or floats in [-1, 1], or (n, F) vectors, of the memory's shape.
            task: the learned task that x is of, where that is known: then one of its classes is chosen, by whatever
                holds the task. None: x may be of any.

        Returns:
            Labels (n,) as int64 or unicode, and probabilities (n, classes) in the order of `memory.classes`, or of the
            task's own classes.

        Raises:
            UnknownTask: the memory has not learned such a task.
            EmptyMemory: nothing has been learned yet.
            SolverRetraining: a task was forgotten, and `reconnect` seconds later the solver was not trained anew yet.
            InvalidInput: x does not have the memory's shape or range.
        """
        requests = self._requests.classify(x, task)
        while True:
            answer = labelled([self._connection.unary("Classify", request) for request in requests])
            if answer is not None:
                return answer

    @property
    def classes(self) -> tuple[Label, ...]:
        """All classes learned so far, in the order in which they were first learned."""
        return self._info(brief=True).classes

    def describe(self) -> MemoryInfo:
        """Kind, options, shape, revision, classes and size of the memory, and how its tasks use the generator."""
        return self._info(brief=False)

    def tasks(self) -> list[Task]:
        """All tasks in the order in which they were admitted, whatever their state."""
        reply = self._connection.unary("ListTasks", pb.ListTasksRequest(memory=self.name))
        return [_decode.task(task) for task in reply.tasks]

    def task(self, name: str) -> TaskHandle:
        """A handle on a task, running or not, whoever started it; calls nobody until it is used."""
        return TaskHandle(self._connection, self.name, name)

    def forget(self, task: str) -> MemoryInfo:
        """Erases one task for good, with every revision that holds it; what remains keeps its bits.

        The task solver is trained anew from what remains: until the memory is `complete` again, `classify` has to wait.
        Streams that are pinned to a revision with the task end with UnknownRevision. Of a task that failed or was
        cancelled, the record is removed.

        Returns:
            The memory as it is then.

        Raises:
            TaskInUse: later tasks reuse what it reserved, and the message names them; or it is consolidated.
            TaskUnfinished: it, or a task that builds on it, is not learned yet: wait, or cancel that one.
            UnknownTask: there is no such task, or it was forgotten before.
        """
        request = pb.ForgetTaskRequest(memory=self.name, task=task)
        return _decode.memory(self._connection.unary("ForgetTask", request))

    def sleep(self, *, progress: bool | SleepListener | None = None) -> MemoryInfo:
        """Has the memory consolidate the tasks that it still holds apart, and waits until it has.

        No data is needed: what is replayed to the generator that the tasks then share is generated. Sampling and
        classifying go on meanwhile. Streams that are pinned to a revision before it end with UnknownRevision. An
        interrupt while waiting leaves it asleep.

        Arguments:
            progress: True shows a line of progress on the error stream, False nothing, None only on a terminal.

        Returns:
            The memory as it is then.

        Raises:
            CannotSleep: a memory of this kind holds nothing apart, or there is nothing left to consolidate.
            SleepFailed: the memory is as it was; the server's log says why.
        """
        shown = listener(progress)
        try:
            return follow_sleep(self._connection, self.name, shown)
        finally:
            shown.close()

    def delete(self) -> None:
        """Deletes the memory with all that it learned, cancels its tasks and ends its streams."""
        self._connection.unary("DeleteMemory", pb.DeleteMemoryRequest(name=self.name))

    def export(self, path: str | PathLike[str], *, progress: bool | TransferListener | None = None) -> None:
        """Writes the memory at its newest revision into one file, from which any server makes the same memory.

        The file appears when it is whole, with mode 0600. Nothing in it is encrypted, whatever the server does with its
        own: it holds all that the memory can generate. A transfer that breaks is begun anew for `reconnect` seconds.

        Arguments:
            path: of the file; one that is there is replaced.
            progress: True shows a line of progress on the error stream, False nothing, None only on a terminal.

        Raises:
            OSError: the file cannot be written.
            DamagedMemory: a part of the memory is damaged on the server's disk.
        """
        shown = listener(progress)
        try:
            self._connection.patiently(lambda: self._exported(Path(path), shown), time.sleep)
        finally:
            shown.close()

    @classmethod
    def import_file(
        cls,
        target: str,
        path: str | PathLike[str],
        name: str,
        *,
        timeout: float = 30.0,
        reconnect: float = 10.0,
        progress: bool | TransferListener | None = None,
        token: str | None = None,
        ca: PEM | None = None,
        certificate: PEM | None = None,
        key: PEM | None = None,
    ) -> Self:
        """Makes a memory of an exported file: the same revision, samples to the bit, analysis and tasks.

        It is there wholly or not at all. The server derives and compares every expert before it answers.

        Arguments:
            target: address of the server.
            path: of the file.
            name: that the memory gets there.
            timeout, reconnect, token, ca, certificate, key: of the Memory that is returned.
            progress: as for `export`.

        Raises:
            MemoryExists: the name is taken.
            DamagedExport: this is no exported memory, or a damaged one.
            InvalidInput: the file cannot be read, or the name is malformed.
            ServerBusy: the server imports another memory now.
        """
        memory = cls(
            target, name, timeout=timeout, reconnect=reconnect, token=token, ca=ca, certificate=certificate, key=key
        )
        shown = listener(progress)
        try:
            with contextlib.suppress(UnknownMemory):  # sees that a server answers
                memory._info(brief=True)
            memory._import(Path(path), shown)
        except BaseException:
            memory.close()
            raise
        finally:
            shown.close()
        return memory

    @staticmethod
    def list(
        target: str = "localhost:50051",
        timeout: float = 30.0,
        reconnect: float = 10.0,
        token: str | None = None,
        ca: PEM | None = None,
        certificate: PEM | None = None,
        key: PEM | None = None,
    ) -> "list[MemoryInfo]":
        """All memories of a server that the caller may see, by name."""
        credentials = Credentials.read(target, token, ca, certificate, key)
        connection = Connection(target, timeout, reconnect, credentials=credentials)
        try:
            reply = connection.unary("ListMemories", pb.ListMemoriesRequest())
        finally:
            connection.close()
        return [_decode.memory(memory) for memory in reply.memories]

    def _info(self, *, brief: bool) -> MemoryInfo:
        request = pb.GetMemoryRequest(name=self.name, brief=brief)
        return _decode.memory(self._connection.unary("GetMemory", request))

    def _exported(self, path: Path, shown: TransferListener) -> None:
        connection, request = self._connection, pb.ExportMemoryRequest(memory=self.name)

        def source(relay: Relay[pb.ExportMemoryResponse]) -> Iterator[pb.ExportMemoryResponse]:
            return relay.messages(lambda: connection.stub.ExportMemory(request), connection.target)

        with Reading(connection, source, _AHEAD) as messages, Download(path, shown) as download:
            for message in messages:
                download.take(message)
            if messages.closed:
                raise MemoryClosed("the memory was closed while it was exported")
            download.finish()

    def _import(self, path: Path, shown: TransferListener) -> None:
        outbox: Outbox[pb.Memory] = Outbox(self._connection, self._connection.stub.ImportMemory, patience=None)
        try:
            for message in upload(path, self.name, shown):
                outbox.put(message)
            outbox.reply()
        finally:
            outbox.close()
