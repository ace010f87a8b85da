"""Who does the learning: an executor takes a job and its data and returns what was learned."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dgm_core.manifest import Learned, Manifest, Shared
from dgm_core.memory import Progress
from memory_server.allocator import OVERWRITABLE
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.errors import OutOfMemory, WorkerDied
from memory_server.learning.frames import Frame, encode, read_async
from memory_server.learning.gate import Gate
from memory_server.learning.messages import (
    Inherited,
    Job,
    Place,
    Renewal,
    ending_frame,
    job_frame,
    read_error,
    read_learned,
    read_progress,
    read_renewed,
    renewing_frame,
)
from memory_server.learning.watchdog import Bounds, Watchdog, kills_for_memory
from memory_server.settings import KEY_VARIABLE
from memory_server.store.keyring import data_keys
from memory_server.store.sealing import SealingKey

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
            Interrupted: see `wind_down`.
            WorkerDied, WorkerSilent, OutOfMemory, TaskTimedOut, LearningFailed: the rest.
        """
        ...

    def wind_down(self) -> None:
        """Asks those who learn with a slot to put down their training and to end: `learn` then raises Interrupted."""
        ...

    async def renew(self, how: Renewal, manifest: Manifest, report: Callable[[Progress], None]) -> Shared:
        """Makes anew what a memory shares, from what it holds alone: its solver, or all that sleep consolidates.

        Raises:
            CannotSleep, TrainingDiverged: as raised by the memory.
            WorkerDied, WorkerSilent, OutOfMemory, TaskTimedOut, LearningFailed: it did not come to its end.
        """
        ...


@dataclass(frozen=True)
class LocalProcessExecutor:
    """Works in processes on this machine, one for each piece of work; they get data by inheritance, not by copy.

    Arguments:
        blobs: directory of the blob store.
        device: where to train, as torch names it.
        threads: for torch on the CPU.
        gate: has the workers make way for sampling.
        bounds: what each worker may take.
        keys: of the blobs; a worker gets those that it needs. None where nothing is encrypted.
        ending: set once the workers should put down what they train.
    """

    blobs: Path
    gate: Gate
    device: str = "cpu"
    threads: int = 1
    bounds: Bounds = field(default_factory=Bounds)
    keys: Mapping[str, SealingKey] | None = field(default=None, repr=False)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def learn(self, job: Job, data: IngestBuffer, report: Callable[[Progress], None]) -> Learned:
        """See `Executor.learn`."""
        frame = job_frame(job, await self._place(job.manifest), Inherited(data.x_fd, data.y_fd))
        return read_learned(await self._answer(frame, (data.x_fd, data.y_fd), report))

    def wind_down(self) -> None:
        """See `Executor.wind_down`."""
        self.ending.set()

    async def renew(self, how: Renewal, manifest: Manifest, report: Callable[[Progress], None]) -> Shared:
        """See `Executor.renew`."""
        frame = renewing_frame(how, manifest, await self._place(manifest))
        return read_renewed(await self._answer(frame, (), report))

    async def _place(self, manifest: Manifest) -> Place:
        found = await asyncio.to_thread(data_keys, self.keys, manifest.digests)
        keys = None if found is None else {digest: key.secret.hex() for digest, key in found.items()}
        return Place(str(self.blobs.absolute()), self.device, self.threads, self.gate.fd, self.gate.share, keys)

    async def _answer(self, work: Frame, inherited: tuple[int, ...], report: Callable[[Progress], None]) -> Frame:
        """Starts a worker, has it do what a frame says, and gives its last frame. Raises what went wrong there."""
        ours, theirs = socket.socketpair()
        killed_before = kills_for_memory()
        with ours:
            with theirs:
                process = await self._start(theirs, inherited)
            watchdog = Watchdog(process.pid, self.bounds)
            try:
                return await watchdog.guard(_follow(ours, work, report, watchdog.heard, self.ending))
            except ConnectionError:
                raise _death(await process.wait(), kills_for_memory() > killed_before) from None
            finally:
                await _kill(process)

    async def _start(self, connection: socket.socket, inherited: tuple[int, ...]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _WORKER, str(connection.fileno()), str(os.getpid())),
            pass_fds=(connection.fileno(), self.gate.fd, *inherited),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env=_environment(),
            # Ctrl-C in the server's terminal must not reach it. In a session of its own it would not be nicer than the
            # server: Linux shares processors between sessions first (sched_autogroup).
            process_group=0,
        )


def _environment() -> dict[str, str]:
    """The server's own, without its master key, and without its allocator: a worker ends soon."""
    kept = {name: value for name, value in os.environ.items() if name not in (*OVERWRITABLE, KEY_VARIABLE)}
    return _SPINS | kept


async def _follow(
    connection: socket.socket,
    work: Frame,
    report: Callable[[Progress], None],
    heard: Callable[[], None],
    ending: asyncio.Event,
) -> Frame:
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    writer.writelines(encode(work))
    telling = asyncio.create_task(_tell_of_end(writer, ending))
    try:
        await writer.drain()
        return await _last(reader, report, heard)
    finally:
        telling.cancel()
        writer.transport.abort()


async def _tell_of_end(writer: asyncio.StreamWriter, ending: asyncio.Event) -> None:
    await ending.wait()
    writer.writelines(encode(ending_frame()))


async def _last(reader: asyncio.StreamReader, report: Callable[[Progress], None], heard: Callable[[], None]) -> Frame:
    while (frame := await read_async(reader)) is not None:
        heard()
        if frame.kind == "error":
            raise read_error(frame)
        if frame.kind == "progress":
            report(read_progress(frame))
        elif frame.kind != "alive":
            return frame
    raise ConnectionResetError("the worker closed its end without an answer")


def _death(status: int, memory_ran_out: bool) -> WorkerDied | OutOfMemory:
    """What the end of a worker that gave no answer means."""
    return OutOfMemory() if status == -signal.SIGKILL and memory_ran_out else WorkerDied(status)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Ends a worker at once and waits until it is gone: SIGTERM might wait for a long training step."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
