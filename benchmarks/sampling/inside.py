"""The yardstick: the compiled generator in this process, with nothing in between."""

import time
from dataclasses import dataclass

import torch

from dgm_core.experts import FrozenExpert, to_storage
from sampling.bench import SPEC


@dataclass(frozen=True)
class Speed:
    """Images per second of wall clock, and CPU-seconds per image of everything that took part."""

    rate: float
    cpu: float

    @property
    def detail(self) -> dict[str, float]:
        """For a row."""
        return {"cpu_us_per_image": 1e6 * self.cpu}


def batch(expert: FrozenExpert, rows: int) -> torch.Tensor:
    """Images (rows, C, H, W) of fresh noise as uint8, on the CPU; one thread computes them."""
    device = next(expert.network.parameters()).device
    z = torch.randn(rows, expert.noise_dim).to(device)
    c = torch.arange(rows, device=device) % len(expert.classes)
    return to_storage(expert.generate(z, c), SPEC).cpu()


def speed(expert: FrozenExpert, rows: int, seconds: float) -> Speed:
    """Of batches one after another."""
    batch(expert, rows)
    images, passed, cpu, started = 0, 0.0, time.process_time(), time.perf_counter()
    while passed < seconds or not images:
        images += len(batch(expert, rows))
        passed = time.perf_counter() - started
    return Speed(images / passed, (time.process_time() - cpu) / images)


def batch_seconds(expert: FrozenExpert, rows: int, seconds: float) -> float:
    """The time of one batch: the median."""
    batch(expert, rows)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not times:
        started = time.perf_counter()
        batch(expert, rows)
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]
