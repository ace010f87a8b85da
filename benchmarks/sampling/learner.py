"""A learner that trains on half replay: from the server, beside the same steps with replay from a tensor of its own."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise, repeat
from statistics import median

import torch
from memory_client import Memory
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.training.batches import to_range
from sampling.bench import MEMORY, SPEC, Bench, Goal, Row

HALF = 64
"""Images of a step that are the learner's own, and as many that are replayed."""

TASKS = 10
CLASSES = 2 * TASKS
WIDTHS = {"cpu": 16, "cuda": 64}
"""Of the first stage; ResNet-18 has 64."""

TURNS = 4
WARM_STEPS = 2

Batches = Iterator[tuple[Tensor, Tensor]]


def measure(bench: Bench) -> Iterator[Row]:
    """A small ResNet-18 trains on half replay from `memory.stream`, beside the same loop with replay from a tensor."""
    apart = len(bench.cores) > 1
    servers, own = (bench.cores[:1], bench.cores[1:]) if apart else ((), ())
    for generator in bench.generators:
        bench.say(f"generator {generator}: {TURNS} turns each" + (", server on a core of its own" if apart else ""))
        learner = Learner(WIDTHS[bench.device.partition(":")[0]], torch.device(bench.device))
        turns: dict[str, list[float]] = {"tensor": [], "stream": []}
        with (
            bench.serving(generator, TASKS, servers) as server,
            Memory(server.target, name=MEMORY) as memory,
            pinned(own),
            memory.stream(batch_size=HALF) as stream,
        ):
            replays: dict[str, Batches] = {"tensor": from_tensor(), "stream": from_stream(stream)}
            for _ in range(TURNS):
                for source, replay in replays.items():
                    turns[source].append(learner.seconds_per_step(replay, bench.seconds / TURNS))
        tensor, streamed = (median(each) for each in turns.values())
        yield Row(f"{generator}, replay from a tensor", 1e3 * tensor, "ms/step")
        # On one core the server takes the learner's time: there the goal says nothing.
        goal = Goal(1.05, most=True) if apart or bench.device != "cpu" else None
        yield Row(
            f"{generator}, replay from the server", 1e3 * streamed, "ms/step", streamed / tensor, "a tensor", goal
        )


class Learner:
    """A classifier, its optimiser, and its own data.

    Arguments:
        width: of the first stage.
        device: where it trains.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self._device = device
        self._network = resnet(width).to(device).train()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimiser = torch.optim.SGD(self._network.parameters(), lr=0.01, momentum=0.9)
        self._own = from_tensor()

    def seconds_per_step(self, replay: Batches, seconds: float) -> float:
        """Mean of the steps of one turn; those that begin it are left out."""
        for _ in range(WARM_STEPS):
            self._step(replay)
        steps, passed, started = 0, 0.0, time.perf_counter()
        while passed < seconds or not steps:
            self._step(replay)
            steps += 1
            passed = time.perf_counter() - started
        return passed / steps

    def _step(self, replay: Batches) -> None:
        pairs = zip(next(self._own), next(replay), strict=True)
        x, y = (torch.cat(pair).to(self._device) for pair in pairs)
        loss = F.cross_entropy(self._network(to_range(x).contiguous(memory_format=torch.channels_last)), y)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        loss.item()  # waits for the device


def from_tensor() -> Batches:
    """Batches that lie ready; taken at random places, as a loader would."""
    x, y = torch.randint(0, 256, (1024, *SPEC.shape), dtype=torch.uint8), torch.randint(TASKS, CLASSES, (1024,))
    for _ in repeat(None):
        rows = torch.randint(0, len(x), (HALF,))
        yield x[rows], y[rows]


def from_stream(stream: Iterator[tuple[object, object]]) -> Batches:
    """Batches of the server."""
    return ((torch.as_tensor(x), torch.as_tensor(y)) for x, y in stream)


@contextmanager
def pinned(cores: tuple[int, ...]) -> Iterator[None]:
    """This process, its future threads included, on some cores; none: as it is."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def resnet(width: int) -> nn.Sequential:
    """ResNet-18 for images of 32 × 32: four stages of two blocks (He et al. 2016, Deep residual learning)."""
    stages: list[nn.Module] = []
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    for stage, (inputs, outputs) in enumerate(pairwise(widths)):
        stages += [Block(inputs, outputs, stride=2 if stage else 1), Block(outputs, outputs, stride=1)]
    return nn.Sequential(
        *_convolution(SPEC.shape[0], width, 1), nn.ReLU(), *stages,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES),
    )  # fmt: skip


class Block(nn.Module):
    """ReLU(x' + two convolutions of x), where x' is x, or a projection of it to the new shape."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(inputs, outputs, stride), nn.ReLU(), *_convolution(outputs, outputs, 1)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(inputs, outputs, stride, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        """Stride s: each side an s-th."""
        return torch.relu(self.shortcut(x) + self.layers(x))


def _convolution(inputs: int, outputs: int, stride: int, kernel: int = 3) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
