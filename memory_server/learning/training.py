"""What a worker does with its job: restore the memory, map the data, learn."""

import mmap
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dgm_core.memories import load_memory
from dgm_core.memory import DataSpec, Progress, Report, TaskData
from memory_server.learning.frames import Frame
from memory_server.learning.messages import Job, Place, error_frame, learned_frame, progress_frame, read_job
from memory_server.store.blobs import BlobStore

SECONDS_BETWEEN_REPORTS = 0.5

Send = Callable[[Frame], None]
"""Sends one frame to the server."""


def run(frame: Frame, send: Send) -> None:
    """Does the job that a frame describes; sends progress, then what was learned or why it was not."""
    try:
        job, place = read_job(frame)
        torch.set_num_threads(place.threads)
        send(_learn(job, place, throttled(send)))
    except Exception as error:  # Whatever it is, the server must hear of it.
        send(error_frame(error))


def throttled(send: Send, clock: Callable[[], float] = time.monotonic) -> Report:
    """A `Report` that sends each change of phase at once and else one snapshot per `SECONDS_BETWEEN_REPORTS`."""
    phase, due = "", 0.0

    def report(progress: Progress) -> None:
        nonlocal phase, due
        if progress.phase != phase or clock() >= due:
            phase, due = progress.phase, clock() + SECONDS_BETWEEN_REPORTS
            send(progress_frame(progress))

    return report


def _learn(job: Job, place: Place, report: Report) -> Frame:
    memory = load_memory(job.manifest, BlobStore(Path(place.blobs)))
    learned = memory.learn(
        _data(job, place), task=job.task, terms=job.terms, report=report, device=torch.device(place.device)
    )
    return learned_frame(job.manifest, learned)


def _data(job: Job, place: Place) -> TaskData:
    x = _mapped(place.x_fd, job.count, job.manifest.spec)
    y = torch.frombuffer(_map(place.y_fd), dtype=torch.int32, count=job.count)
    return TaskData(x, y.long(), job.classes)


def _mapped(descriptor: int, count: int, spec: DataSpec) -> Tensor:
    """The rows of a memfd, not copied."""
    dtype = torch.uint8 if spec.dtype == "uint8" else torch.float32
    values = torch.frombuffer(_map(descriptor), dtype=dtype)
    return values.reshape(count, *spec.shape)


def _map(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0)
