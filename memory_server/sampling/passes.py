"""One pass over the device, from noise to the rows of jobs: the only place where sampling runs networks."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from dgm_core.memory import Expert
from memory_server.sampling.experts import ExpertCache
from memory_server.sampling.foresight import Order
from memory_server.sampling.jobs import Job
from memory_server.sampling.plan import TILE_STEP, ExpertKey
from memory_server.sampling.stock import Stock
from memory_server.sampling.tiles import classes, fresh, promised
from memory_server.sampling.waiting import FEW_ROWS, Work


class _Share(NamedTuple):
    """What one expert has to do in a pass."""

    key: ExpertKey
    expert: Expert
    works: list[Work]

    @property
    def job(self) -> Job:
        """For which it is done, along with others."""
        return self.works[0].job

    @property
    def needed(self) -> int:
        """Rows that somebody waits for."""
        return sum(work.rows for work in self.works)


class _Made(NamedTuple):
    """What came of it: a row of x for each class in c, and rows that only pad it."""

    share: _Share
    c: Int[ndarray, " rows"]
    x: Float[Tensor, "padded *shape"]


def run(works: Sequence[Work], experts: ExpertCache, stock: Stock) -> None:
    """Computes tiles together and delivers them. What goes wrong is delivered too, to those whom it concerns.

    Rows that nobody needs yet are made along with few where the job has some to spare, and put in stock.
    """
    forgotten = stock.forgotten
    shares = list(_shares(works, experts))
    try:
        for made in _generated(shares, experts, stock):
            _deliver(made)
            _keep(made, stock, forgotten)
    except Exception as error:  # the readers of the streams must hear of it, whatever it is
        _fail((work for share in shares for work in share.works), error)


@torch.inference_mode()
def ahead(order: Order, experts: ExpertCache, stock: Stock) -> None:
    """Makes rows that nobody waits for and puts them in stock. Raises whatever is wrong with their expert."""
    forgotten = stock.forgotten
    expert = experts.expert(order.memory, order.expert)
    z, c = torch.from_numpy(fresh(len(order.c), expert.noise_dim)), torch.from_numpy(order.c)
    x = expert.generate(z.to(experts.device), c.to(experts.device))
    stock.put(order.expert, order.form, order.c, order.form.of(x).cpu().numpy(), forgotten)


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
def _generated(shares: Sequence[_Share], experts: ExpertCache, stock: Stock) -> list[_Made]:
    """What each expert generates for its tiles, and beyond."""
    if not shares:
        return []
    most = max(share.needed for share in shares)
    spare = stock.spare(shares[0].job)
    rows = max(most, spare if len(shares) == 1 else min(spare, FEW_ROWS))
    # The rows of one tile alone are rounded up: that is what its bytes are defined by, and fewer are hardly faster.
    padded = -(-rows // TILE_STEP) * TILE_STEP if len(shares) == 1 else rows
    z = np.zeros((len(shares), padded, shares[0].expert.noise_dim), np.float32)
    c = np.zeros((len(shares), padded), np.int64)
    filled = [_inputs(share, padded if spare else share.needed) for share in shares]
    for index, (noise, its) in enumerate(filled):
        z[index, : len(its)], c[index, : len(its)] = noise, its
    on_device = torch.from_numpy(z).to(experts.device), torch.from_numpy(c).to(experts.device)
    if len(shares) == 1:
        made = [shares[0].expert.generate(*(each[0] for each in on_device))]
    else:
        made = list(experts.bundle({share.key: share.expert for share in shares}).generate(*on_device))
    return [_Made(share, its, x) for share, (_, its), x in zip(shares, filled, made, strict=True)]


def _inputs(share: _Share, rows: int) -> tuple[ndarray, ndarray]:
    """Noise and classes of what is needed, and of as much beyond as makes so many rows, of the same classes."""
    noise_dim = share.expert.noise_dim
    z = [_noise(work, noise_dim) for work in share.works]
    c = np.concatenate([classes(work.tile) for work in share.works])
    if beyond := rows - len(c):
        z.append(fresh(beyond, noise_dim))
        c = np.concatenate([c, c[np.arange(beyond) * len(c) // beyond]])
    return np.concatenate(z), c


def _noise(work: Work, noise_dim: int) -> Float[ndarray, "rows noise"]:
    return promised(work.tile, work.job.seed, noise_dim) if work.job.exact else fresh(work.rows, noise_dim)


@torch.inference_mode()
def _deliver(made: _Made) -> None:
    start = 0
    for work in made.share.works:
        rows = made.x[start : start + work.rows]
        work.job.deliver(work.tile, work.job.form.of(rows).cpu().numpy())
        start += work.rows


@torch.inference_mode()
def _keep(made: _Made, stock: Stock, forgotten: int) -> None:
    start, stop = made.share.needed, len(made.c)
    if start < stop:
        form = made.share.job.form
        rows = form.of(made.x[start:stop]).cpu().numpy()
        stock.put(made.share.key, form, made.c[start:], rows, forgotten)


def _fail(works: Iterable[Work], error: Exception) -> None:
    for work in works:
        work.job.fail(error)
