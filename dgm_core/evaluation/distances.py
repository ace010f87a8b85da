"""Kernel distance: how far apart two sets of features are, without bias whatever their sizes.

    k(x, y) = (x·y / d + 1)³
    MMD² = Σ_{i≠j} k(xᵢ, xⱼ) / m(m−1) + Σ_{i≠j} k(yᵢ, yⱼ) / n(n−1) − 2 Σ_{i,j} k(xᵢ, yⱼ) / mn

Bińkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs", ICLR 2018. It is 0 in expectation for two
samples of one distribution, so single values may be slightly negative.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FEWEST_ROWS = 4


@dataclass(frozen=True)
class Estimate:
    """A mean over subsets and its standard error.

    The subsets are drawn from the same two sets and overlap: the error tells how noisy the mean is, and is not the
    whole uncertainty of a statement about the distributions behind the sets.
    """

    value: float
    standard_error: float


def kernel_distance(
    x: Float[Tensor, "m features"],
    y: Float[Tensor, "n features"],
    generator: torch.Generator,
    subsets: int = 50,
    size: int = 1000,
) -> Estimate:
    """MMD² averaged over random subsets of both sets.

    Arguments:
        x, y: features, at least `FEWEST_ROWS` of each.
        generator: draws the subsets, on the CPU.
        subsets: how many, at least 2.
        size: rows of a subset, at most half of the smaller set: larger ones would be alike, and the error too small.

    Raises:
        ValueError: there are too few rows or subsets.
    """
    if min(len(x), len(y)) < FEWEST_ROWS or subsets < 2:
        raise ValueError(
            f"a kernel distance needs {FEWEST_ROWS} rows of each set and 2 subsets, "
            f"not {len(x)} and {len(y)} rows and {subsets} subsets"
        )
    rows = min(size, min(len(x), len(y)) // 2)
    values = torch.tensor(
        [squared_mmd(_subset(x, rows, generator), _subset(y, rows, generator)) for _ in range(subsets)],
        dtype=torch.float64,
    )
    return Estimate(float(values.mean()), float(values.std(correction=1)) / subsets**0.5)


def squared_mmd(x: Float[Tensor, "m features"], y: Float[Tensor, "n features"], rows: int = 1024) -> float:
    """Unbiased MMD² of two sets of at least 2 rows under the cubic kernel, computed in float64.

    Arguments:
        rows: of either set that are looked at together: rows × rows values of the kernel are held at a time.
    """
    x, y = x.double(), y.double()
    m, n = len(x), len(y)
    within_x = (_kernel_sum(x, x, rows) - _diagonal_sum(x)) / (m * (m - 1))
    within_y = (_kernel_sum(y, y, rows) - _diagonal_sum(y)) / (n * (n - 1))
    return within_x + within_y - 2 * _kernel_sum(x, y, rows) / (m * n)


def _kernel_sum(x: Tensor, y: Tensor, rows: int) -> float:
    features = x.shape[1]
    return float(
        sum((some @ others.T / features + 1).pow(3).sum() for some in x.split(rows) for others in y.split(rows))
    )


def _diagonal_sum(x: Tensor) -> float:
    return float((x.square().sum(dim=1) / x.shape[1] + 1).pow(3).sum())


def _subset(x: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=generator)[:rows].to(x.device)]
