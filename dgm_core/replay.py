"""Replay: labelled samples of what experts hold, to train classifiers on."""

from collections.abc import Callable, Sequence

import torch

from dgm_core.experts import draw
from dgm_core.manifest import DataSpec, ExpertEntry, Label
from dgm_core.memory import Expert
from dgm_core.training.classifying import Pool

Load = Callable[[ExpertEntry], Expert]


def replay_pools(
    entries: Sequence[ExpertEntry],
    load: Load,
    classes: Sequence[Label],
    per_class: int,
    spec: DataSpec,
    device: torch.device,
    generator: torch.Generator,
) -> list[Pool]:
    """Samples of every class of the experts, about `per_class` of each, as one pool per expert and class.

    Arguments:
        entries: the experts to draw from.
        load: materialises an entry.
        classes: the single head over all their classes; y indexes into it.
        per_class: samples per class; a class with several experts shares them in proportion to the examples they saw.
        spec: of one example.
        device: where the pools will live.
        generator: of the noise, on the CPU.
    """
    total = dict.fromkeys(classes, 0)
    for entry in entries:
        for label, examples in zip(entry.classes, entry.examples, strict=True):
            total[label] += examples
    pools = []
    for entry in entries:
        expert = load(entry).to(device)
        for label, examples in zip(entry.classes, entry.examples, strict=True):
            n = max(1, round(per_class * examples / total[label]))
            x = draw(expert, label, n, spec, device, generator)
            pools.append(Pool(x, torch.full((n,), list(classes).index(label), device=device)))
    return pools
