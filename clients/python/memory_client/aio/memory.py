"""A generative memory on a server, as an asynchronous learner uses it."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, overload

import grpc
import numpy as np
from memory_api.v1 import memory_pb2 as pb
from numpy.typing import DTypeLike, NDArray

from memory_client import _decode
from memory_client._lesson import Interruptions
from memory_client._requests import Classes, Requests, labelled
from memory_client._transfer import Download, upload
from memory_client.aio._outbox import Outbox
from memory_client.aio._reading import Reading
from memory_client.aio._streaming import batches, collect
from memory_client.aio.channel import Connection, Silent
from memory_client.aio.learning import TaskHandle, Upload
from memory_client.aio.sleeping import follow_sleep
from memory_client.channel import Patience
from memory_client.credentials import PEM, Credentials
from memory_client.errors import ServerUnavailable, TaskInterrupted, UnknownMemory
from memory_client.interpolation import Ends
from memory_client.progress import ProgressListener, SleepListener, TransferListener, listener
from memory_client.sampling import Batch, Rebatcher
from memory_client.types import Label, Layout, MemoryInfo, Precision, Task


class Memory:
    """The asyncio twin of `memory_client.Memory`: the same verbs, arguments, results and errors, awaited.

        async with Memory("localhost:50051", name="digits") as memory:
            await memory.learn_task((x, y), task="t0")
            x, y = await memory.sample(classes=[0, 1], n=64)
            async for x, y in memory.stream(batch_size=128): ...

    Making one calls nobody: the connection is made when it is first needed, once in each event loop. Cancelling whoever
    awaits a call cancels the call. `async with`, or `await memory.close()`, closes the connection of the running loop.

    Arguments:
        As of `memory_client.Memory`.
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def target(self) -> str:
        """Address of the server."""
        return self._connection.target

    async def close(self) -> None:
        """Closes the connection of this event loop and ends its streams; a later call opens a new one."""
        await self._connection.close()

    @overload
    async def learn_task(
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
    async def learn_task(
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

    async def learn_task(
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
        """Teaches the memory one task, see `memory_client.Memory.learn_task`.

        The stream may be an asynchronous iterable of batches (x, y) as well. Any other is iterated by threads, one
        batch after the other, so that the event loop goes on. Cancelling while data is sent takes all of it back, while
        the task is learned it leaves it running on the server.
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
                admitted = await Upload(self._connection, header, shown).send(stream)
                handle = TaskHandle(self._connection, self.name, admitted.name)
                if not wait:
                    return handle
                try:
                    return await handle.show(shown)
                except TaskInterrupted as error:
                    interruptions.bear(error)
        finally:
            shown.close()

    async def sample(
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
        """Draws n synthetic examples, balanced over the classes to ±1, see `memory_client.Memory.sample`."""
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
        return await collect(self._connection, reader, rows)

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
        """Batches of synthetic examples without end, prefetched by a task, see `memory_client.Memory.stream`.

        Nothing is asked for before the first batch is awaited. Leaving the loop and dropping the iterator, `aclose()`,
        an `async with` or cancelling whoever awaits a batch ends the stream.
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

    async def interpolate(
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
        """Draws what lies between two tasks, see `memory_client.Memory.interpolate`."""
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
        x, _ = await collect(self._connection, reader, total)
        return x.reshape(*shape, *x.shape[1:])

    async def classify(self, x: Any, task: str | None = None) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Labels examples with the memory's own task solver, see `memory_client.Memory.classify`."""
        requests = self._requests.classify(x, task)
        while True:
            answer = labelled([await self._connection.unary("Classify", request) for request in requests])
            if answer is not None:
                return answer

    async def classes(self) -> tuple[Label, ...]:
        """All classes learned so far, in the order in which they were first learned."""
        return (await self._info(brief=True)).classes

    async def describe(self) -> MemoryInfo:
        """Kind, options, shape, revision, classes and size of the memory, and how its tasks use the generator."""
        return await self._info(brief=False)

    async def tasks(self) -> list[Task]:
        """All tasks in the order in which they were admitted, whatever their state."""
        reply = await self._connection.unary("ListTasks", pb.ListTasksRequest(memory=self.name))
        return [_decode.task(task) for task in reply.tasks]

    def task(self, name: str) -> TaskHandle:
        """A handle on a task, running or not, whoever started it; calls nobody until it is used."""
        return TaskHandle(self._connection, self.name, name)

    async def forget(self, task: str) -> MemoryInfo:
        """Erases one task for good and gives the memory as it is then, see `memory_client.Memory.forget`."""
        request = pb.ForgetTaskRequest(memory=self.name, task=task)
        return _decode.memory(await self._connection.unary("ForgetTask", request))

    async def sleep(self, *, progress: bool | SleepListener | None = None) -> MemoryInfo:
        """Has the memory consolidate the tasks that it still holds apart, see `memory_client.Memory.sleep`.

        Cancelling whoever waits leaves it asleep.
        """
        shown = listener(progress)
        try:
            return await follow_sleep(self._connection, self.name, shown)
        finally:
            shown.close()

    async def delete(self) -> None:
        """Deletes the memory with all that it learned, cancels its tasks and ends its streams."""
        await self._connection.unary("DeleteMemory", pb.DeleteMemoryRequest(name=self.name))

    async def export(self, path: str | PathLike[str], *, progress: bool | TransferListener | None = None) -> None:
        """Writes the memory into one file, see `memory_client.Memory.export`."""
        shown, patience = listener(progress), Patience(self._connection.reconnect)
        try:
            while True:
                try:
                    return await self._exported(Path(path), shown)
                except ServerUnavailable as error:
                    pause = patience.next_pause(error)
                await asyncio.sleep(pause)
        finally:
            shown.close()

    @classmethod
    async def import_file(
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
        """Makes a memory of an exported file, see `memory_client.Memory.import_file`."""
        memory = cls(
            target, name, timeout=timeout, reconnect=reconnect, token=token, ca=ca, certificate=certificate, key=key
        )
        shown = listener(progress)
        try:
            with contextlib.suppress(UnknownMemory):  # sees that a server answers
                await memory._info(brief=True)
            await memory._import(Path(path), shown)
        except BaseException:
            await memory.close()
            raise
        finally:
            shown.close()
        return memory

    @staticmethod
    async def list(
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
            reply = await connection.unary("ListMemories", pb.ListMemoriesRequest())
        finally:
            await connection.close()
        return [_decode.memory(memory) for memory in reply.memories]

    async def _info(self, *, brief: bool) -> MemoryInfo:
        request = pb.GetMemoryRequest(name=self.name, brief=brief)
        return _decode.memory(await self._connection.unary("GetMemory", request))

    async def _exported(self, path: Path, shown: TransferListener) -> None:
        call = self._connection.stub.ExportMemory(pb.ExportMemoryRequest(memory=self.name))
        try:
            with Download(path, shown) as download:
                while (message := await self._connection.step(call, call.read())) is not grpc.aio.EOF:
                    await asyncio.to_thread(download.take, message)
                await asyncio.to_thread(download.finish)
        except Silent:
            raise self._connection.silent() from None
        finally:
            call.cancel()

    async def _import(self, path: Path, shown: TransferListener) -> None:
        outbox: Outbox[pb.Memory] = Outbox(self._connection, self._connection.stub.ImportMemory, patient=True)
        try:
            messages = upload(path, self.name, shown)
            going_on = True
            while going_on and (message := await asyncio.to_thread(next, messages, None)) is not None:
                going_on = await outbox.put(message)
            await outbox.reply()
        finally:
            outbox.close()
