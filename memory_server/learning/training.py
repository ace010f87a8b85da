"""What a worker does: restore the memory, then map the data and learn, or make anew what the memory shares."""

import mmap
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor

from dgm_core.manifest import DataSpec
from dgm_core.memories import load_memory
from dgm_core.memory import Progress, Report, TaskData
from memory_server.learning.frames import Frame
from memory_server.learning.gate import pause_between_steps
from memory_server.learning.messages import (
    Inherited,
    Job,
    Place,
    Renewal,
    alive_frame,
    error_frame,
    learned_frame,
    progress_frame,
    read_job,
    read_renewing,
    renewed_frame,
)
from memory_server.learning.pulse import beat_while_computing
from memory_server.learning.resuming import checkpoints_of

SECONDS_BETWEEN_REPORTS = 0.5

Send = Callable[[Frame], None]
"""Sends one frame to the server."""


def run(frame: Frame, send: Send, ending: threading.Event) -> None:
    """Does what a frame asks for; sends progress, then the result or why there is none.

    The last is sent once an error is handled: what fails then must not take its message along to standard error.

    Arguments:
        ending: set once a training should be put down where it is.
    """
    try:
        beat_while_computing(lambda: send(alive_frame()))
        report = throttled(send)
        answer = _learn(frame, report, ending) if frame.kind == "job" else _renew(frame, report)
    except Exception as error:  # Whatever it is, the server must hear of it.
        answer = error_frame(error)
    send(answer)


def throttled(send: Send, clock: Callable[[], float] = time.monotonic) -> Report:
    """A `Report` that sends each change of phase at once and else one snapshot per `SECONDS_BETWEEN_REPORTS`."""
    phase, due = "", 0.0

    def report(progress: Progress) -> None:
        nonlocal phase, due
        if progress.phase != phase or clock() >= due:
            phase, due = progress.phase, clock() + SECONDS_BETWEEN_REPORTS
            send(progress_frame(progress))

    return report


def _learn(frame: Frame, report: Report, ending: threading.Event) -> Frame:
    job, place, inherited = read_job(frame)
    device = _settle(place)
    memory = load_memory(job.manifest, place.store())
    learned = memory.learn(
        _data(job, inherited),
        task=job.task,
        terms=job.terms,
        report=report,
        device=device,
        checkpoints=checkpoints_of(job.slot, ending),
    )
    return learned_frame(job.manifest, learned)


def _renew(frame: Frame, report: Report) -> Frame:
    manifest, place = read_renewing(frame)
    device = _settle(place)
    memory = load_memory(manifest, place.store())
    renew = memory.sleep if frame.kind == Renewal.SLEEP else memory.restore
    return renewed_frame(renew(report=report, device=device))


def _settle(place: Place) -> torch.device:
    """Makes this process compute as it was told to."""
    torch.set_num_threads(place.threads)
    device = torch.device(place.device)
    pause_between_steps(place.gate, place.share, device)
    return device


def _data(job: Job, inherited: Inherited) -> TaskData:
    x = _mapped(inherited.x_fd, job.count, job.manifest.spec)
    y = torch.frombuffer(_map(inherited.y_fd), dtype=torch.int32, count=job.count)
    return TaskData(x, y.long(), job.classes)


def _mapped(descriptor: int, count: int, spec: DataSpec) -> Tensor:
    """The rows of a memfd, not copied."""
    dtype = torch.uint8 if spec.dtype == "uint8" else torch.float32
    values = torch.frombuffer(_map(descriptor), dtype=dtype)
    return values.reshape(count, *spec.shape)


def _map(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0)
