"""One pass over the device, from noise to the rows of jobs: the only place where sampling runs networks."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgm_core.memory import Expert
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.plan import TILE_STEP, ExpertKey
from memory_server.sampling.tiles import classes, fresh, promised
from memory_server.sampling.waiting import Work


class _Share(NamedTuple):
    """What one expert has to do in a pass."""

    key: ExpertKey
    expert: Expert
    works: list[Work]


def run(works: Sequence[Work], experts: ExpertCache) -> None:
    """Computes tiles together and delivers them. What goes wrong is delivered too, to those whom it concerns."""
    shares = list(_shares(works, experts))
    try:
        for share, x in _generated(shares, experts):
            _deliver(share.works, x)
    except Exception as error:  # the readers of the streams must hear of it, whatever it is
        _fail((work for share in shares for work in share.works), error)


def _shares(works: Sequence[Work], experts: ExpertCache) -> Iterator[_Share]:
    """Tiles by expert, without those whose expert is not to be had."""
    by_expert: dict[ExpertKey, list[Work]] = {}
    for work in works:
        by_expert.setdefault(work.tile.expert, []).append(work)
    for key, its in by_expert.items():
        try:
            expert = experts.expert(its[0].job.memory, key)
        except Exception as error:  # as above
            _fail(its, error)
        else:
            yield _Share(key, expert, its)


@torch.inference_mode()
def _generated(shares: Sequence[_Share], experts: ExpertCache) -> list[tuple[_Share, Tensor]]:
    """What each expert generates for its tiles, rows that pad them included."""
    if not shares:
        return []
    filled = [_inputs(share) for share in shares]
    most = max(len(c) for _, c in filled)
    # The rows of one tile alone are rounded up: that is what its bytes are defined by, and fewer are hardly faster.
    rows = -(-most // TILE_STEP) * TILE_STEP if len(shares) == 1 else most
    z = np.zeros((len(shares), rows, shares[0].expert.noise_dim), np.float32)
    c = np.zeros((len(shares), rows), np.int64)
    for index, (noise, its) in enumerate(filled):
        z[index, : len(its)], c[index, : len(its)] = noise, its
    on_device = torch.from_numpy(z).to(experts.device), torch.from_numpy(c).to(experts.device)
    if len(shares) == 1:
        return [(shares[0], shares[0].expert.generate(*(each[0] for each in on_device)))]
    bundle = experts.bundle({share.key: share.expert for share in shares})
    return list(zip(shares, bundle.generate(*on_device), strict=True))


def _inputs(share: _Share) -> tuple[np.ndarray, np.ndarray]:
    noise_dim = share.expert.noise_dim
    z = [
        promised(work.tile, work.job.seed, noise_dim) if work.job.exact else fresh(work.tile, noise_dim)
        for work in share.works
    ]
    return np.concatenate(z), np.concatenate([classes(work.tile) for work in share.works])


@torch.inference_mode()
def _deliver(works: Sequence[Work], x: Tensor) -> None:
    start = 0
    for work in works:
        rows = x[start : start + work.rows]
        work.job.deliver(work.tile, work.job.form.of(rows).cpu().numpy())
        start += work.rows


def _fail(works: Iterable[Work], error: Exception) -> None:
    for work in works:
        work.job.fail(error)
