"""Who does the learning: an executor takes a job and its data and returns what was learned."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dgm_core.memory import Learned, Progress
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.errors import WorkerDied
from memory_server.learning.frames import encode, read_async
from memory_server.learning.messages import Job, Place, job_frame, read_error, read_learned, read_progress

_WORKER = "memory_server.learning.worker"
_SPINS = {"GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "passive"}
"""How long a training thread may spin for the others. By default it spins for milliseconds, and where samplers or
learners want the same cores a step then takes ten times as long."""


class Executor(Protocol):
    """A place to learn."""

    async def learn(self, job: Job, data: IngestBuffer, report: Callable[[Progress], None]) -> Learned:
        """Learns one task. Once it returns, raises or is cancelled, nobody reads `data` any more.

        Arguments:
            job: what to learn.
            data: its rows; stays with the caller, who wipes it.
            report: called with each snapshot of progress.

        Raises:
            CannotLearn, QualityTooLow, TrainingDiverged: as raised by the memory.
            WorkerDied, OutOfMemory, LearningFailed: the rest.
        """
        ...


@dataclass(frozen=True)
class LocalProcessExecutor:
    """Learns each task in a process of its own on this machine, which gets the data by inheritance, not by copy.

    Arguments:
        blobs: directory of the blob store.
        device: where to train, as torch names it.
        threads: for torch on the CPU.
    """

    blobs: Path
    device: str = "cpu"
    threads: int = 1

    async def learn(self, job: Job, data: IngestBuffer, report: Callable[[Progress], None]) -> Learned:
        """See `Executor.learn`."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await self._start(theirs, data)
            try:
                return await self._follow(ours, job, data, report)
            except ConnectionError:
                raise WorkerDied(await process.wait()) from None
            finally:
                await _kill(process)

    async def _start(self, connection: socket.socket, data: IngestBuffer) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _WORKER, str(connection.fileno()), str(os.getpid())),
            pass_fds=(connection.fileno(), data.x_fd, data.y_fd),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env={**_SPINS, **os.environ},
            start_new_session=True,  # Ctrl-C in the server's terminal must not reach it
        )

    async def _follow(
        self, connection: socket.socket, job: Job, data: IngestBuffer, report: Callable[[Progress], None]
    ) -> Learned:
        place = Place(str(self.blobs.absolute()), data.x_fd, data.y_fd, self.device, self.threads)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        try:
            writer.writelines(encode(job_frame(job, place)))
            await writer.drain()
            return await _result(reader, report)
        finally:
            writer.transport.abort()


async def _result(reader: asyncio.StreamReader, report: Callable[[Progress], None]) -> Learned:
    while (frame := await read_async(reader)) is not None:
        if frame.kind == "learned":
            return read_learned(frame)
        if frame.kind == "error":
            raise read_error(frame)
        report(read_progress(frame))
    raise ConnectionResetError("the worker closed its end without an answer")


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Ends a worker at once and waits until it is gone: SIGTERM might wait for a long training step."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
