"""How things stand at the moment of reading: tasks, memory, experts, disk, commits."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import torch
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from memory_server.learning.admission import IngestBudget
from memory_server.overwriting import Overwriting
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.stock import Stock
from memory_server.store.datadir import DataDir
from memory_server.store.records import TaskState
from memory_server.watching.activity import Activity

MOST_MEMORIES = 100
"""Memories that have a series of their own: those that learned last."""

_LOSS = "_loss"


@dataclass(frozen=True)
class Figures(Collector):
    """Reads the parts of a server when Prometheus asks; safe from its thread.

    Labels are bounded: states and losses by the code, `learner` by the number of learners, `memory` by `MOST_MEMORIES`.

    Arguments:
        activity: what learning does.
        budget: of raw data.
        experts: on the device.
        stock: rows that were made ahead.
        store: what is kept.
        overwriting: of freed memory.
    """

    activity: Activity
    budget: IngestBudget
    experts: ExpertCache
    stock: Stock
    store: DataDir
    overwriting: Overwriting

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from _build()
        yield from self._tasks()
        yield from self._training()
        yield from self._held()
        yield from _device(self.experts.device)
        yield from self._kept()

    def _tasks(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily("memory_server_tasks", "Tasks that are not in a final state.", labels=["state"])
        states = self.activity.states
        for state in (each for each in TaskState if not each.final):
            tasks.add_metric([state.value], states[state])
        yield tasks
        yield _gauge(
            "oldest_queued_task_seconds", "How long the oldest queued task has waited.", self.activity.longest_wait
        )

    def _training(self) -> Iterator[Metric]:
        yield _gauge(
            "training_silence_seconds", "For how long the stillest run has made no progress.", self.activity.silence
        )
        progress = _family("training_progress_ratio", "How far each learner is with its task.", "learner")
        losses = _family("training_loss", "Newest losses of each learner.", "learner", "loss")
        occupancy = _family("training_mask_occupancy_ratio", "Mean of the gates of each learner's masks.", "learner")
        for run in self.activity.runs:
            if run.progress is None:
                continue
            learner, metrics = str(run.place), run.progress.metrics
            progress.add_metric([learner], run.progress.fraction)
            for name in (each for each in metrics if each.endswith(_LOSS)):
                losses.add_metric([learner, name.removesuffix(_LOSS)], metrics[name])
            if "mask_occupancy" in metrics:
                occupancy.add_metric([learner], metrics["mask_occupancy"])
        yield from (progress, losses, occupancy)

    def _held(self) -> Iterator[Metric]:
        yield _gauge("held_bytes", "Raw data of tasks that are not learned yet.", self.budget.used)
        yield _gauge("ingest_budget_bytes", "How much of it may be held.", self.budget.limit)
        overwriting = self.overwriting.complete
        yield _gauge("overwriting", "Whether freed memory is overwritten: raw data may be in it.", overwriting)
        yield _gauge("experts", "Generators kept on the device.", self.experts.count)
        yield _gauge("expert_bytes", "Bytes of those generators, bundled ones counted again.", self.experts.nbytes)
        yield _gauge(
            "expert_cache_bytes", "How many bytes of them are kept, bundled ones counted again.", self.experts.capacity
        )
        yield _gauge("stock_bytes", "Rows made ahead for streams and requests.", self.stock.nbytes)

    def _kept(self) -> Iterator[Metric]:
        try:
            disk, census = os.statvfs(self.store.path), self.store.catalog.census(MOST_MEMORIES)
        except (OSError, SQLAlchemyError):  # A disk that cannot be read must not take the other figures with it.
            return
        free = disk.f_bavail * disk.f_frsize
        yield _gauge("disk_free_bytes", "What the file system of the data directory still takes.", free)
        yield _gauge("disk_bytes", "Size of that file system.", disk.f_blocks * disk.f_frsize)
        yield _gauge("memories", "Memories in the catalog.", census.memories)
        yield _gauge("blobs", "Files that memories consist of.", census.blobs)
        yield _gauge("blob_bytes", "Bytes of those files.", census.bytes)
        last = _family(
            "memory_commit_timestamp_seconds",
            f"When a memory learned last, since 1970; the {MOST_MEMORIES} memories with the latest commits.",
            "memory",
        )
        for memory, moment in census.commits.items():
            last.add_metric([memory], moment / 1000)
        yield last
        if census.commits:
            newest = max(census.commits.values()) / 1000
            yield _gauge("last_commit_timestamp_seconds", "When any memory learned last, since 1970.", newest)


def _build() -> Iterator[Metric]:
    build = _family("build_info", "Versions of what runs; always 1.", "version", "torch", "python")
    build.add_metric([version("generative-memory"), torch.__version__, platform.python_version()], 1)
    yield build


def _device(device: torch.device) -> Iterator[Metric]:
    """Memory of a CUDA device; a processor has none of its own."""
    if device.type != "cuda":
        return
    free, total = torch.cuda.mem_get_info(device)
    yield _gauge("device_allocated_bytes", "Device memory that sampling uses.", torch.cuda.memory_allocated(device))
    yield _gauge("device_free_bytes", "Device memory that no process uses.", free)
    yield _gauge("device_bytes", "Memory of the device.", total)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"memory_server_{name}", text, value=value)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"memory_server_{name}", text, labels=labels)
