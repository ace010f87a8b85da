"""Reduced precision beside the full one: how much faster it is, and how far its samples are from those."""

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

import torch
from memory_client import Memory

from dgm_core.experts import FrozenExpert, to_storage
from dgm_core.memory import Expert
from dgm_core.precision import ReducedExpert, has_bfloat16
from dgm_core.style.base import Base
from dgm_core.style.foundation import Foundation
from dgm_core.style.library import Library
from sampling import inside
from sampling.bench import MEMORY, SPEC, Bench, Row
from sampling.single import BATCH, TURNS, streamed

LOOKED_AT = 1024
"""Images whose pixels are compared."""


def measure(bench: Bench) -> Iterator[Row]:
    """Samples in reduced precision over those in full: images a second, and how far pixels move."""
    if not has_bfloat16(torch.device(bench.device)):
        bench.say("this device has no instructions for bfloat16: reduced precision is the full one")
    for generator in bench.generators:
        bench.say(f"generator {generator}: both in process, then both from the server, {TURNS} times")
        full = bench.expert(generator)
        yield from _rows(f"{generator}, in process", *_in_process(bench, (full, ReducedExpert(full))))
        yield from _rows(f"{generator}, served", *_served(bench, generator))
    bench.say("the shipped base: the same noise in both")
    yield from _apart(torch.device(bench.device))


def _in_process(bench: Bench, experts: tuple[Expert, Expert]) -> tuple[float, float]:
    turns = [[inside.speed(expert, BATCH, bench.seconds / TURNS).rate for expert in experts] for _ in range(TURNS)]
    full, reduced = (median(each) for each in zip(*turns, strict=True))
    return full, reduced


def _served(bench: Bench, generator: str) -> tuple[float, float]:
    with ExitStack() as stack:
        server = stack.enter_context(bench.serving(generator))
        memory = stack.enter_context(Memory(server.target, name=MEMORY))
        turns = []
        for _ in range(TURNS):
            rates = []
            for precision in ("full", "reduced"):
                with memory.stream(batch_size=BATCH, precision=precision) as batches:
                    rates.append(streamed(batches, server, bench.seconds / TURNS).rate)
            turns.append(rates)
    full, reduced = (median(each) for each in zip(*turns, strict=True))
    return full, reduced


def _rows(what: str, full: float, reduced: float) -> Iterator[Row]:
    yield Row(f"{what}, full", full, "images/s")
    yield Row(f"{what}, reduced", reduced, "images/s", reduced / full, "full")


@torch.inference_mode()
def _apart(device: torch.device) -> Iterator[Row]:
    _, blob = Library().find("", SPEC)
    foundation = Foundation(Base.unpack(blob), SPEC)
    expert = FrozenExpert(foundation.generator(foundation.style).folded(), (0,), foundation.base.design.noise)
    z, c = torch.randn(LOOKED_AT, expert.noise_dim), torch.zeros(LOOKED_AT, dtype=torch.int64)
    full, reduced = (
        to_storage(each.to(device).generate(z.to(device), c.to(device)), SPEC).float()
        for each in (expert, ReducedExpert(expert))
    )
    apart = (full - reduced).abs().mean().item()
    yield Row("shipped base: distance of a pixel", apart, "of 255", apart / full.std().item(), "standard deviation")
