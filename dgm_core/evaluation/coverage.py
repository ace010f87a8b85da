"""Coverage and density: is every kind of real example generated, and is what is generated like real examples.

With B(xᵢ) the ball around a real point xᵢ that reaches to its k-th nearest real neighbour, and generated points yⱼ:

    coverage = 1/n Σᵢ [some yⱼ ∈ B(xᵢ)]                 in [0, 1]; falls when modes are dropped
    density  = 1/(k·m) Σⱼ #{i : yⱼ ∈ B(xᵢ)}             about 1 for real examples; may exceed 1

Naeem, Oh, Uh, Choi and Yoo, "Reliable fidelity and diversity metrics for generative models", ICML 2020.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NEIGHBOURS = 5


def coverage(
    real: Float[Tensor, "n features"], generated: Float[Tensor, "m features"], k: int = NEIGHBOURS, rows: int = 1024
) -> float:
    """Share of real points whose ball holds a generated point.

    Arguments:
        k: which neighbour the balls reach to.
        rows: real points that are looked at together: distances take rows × max(n, m) values at a time.

    Raises:
        ValueError: there are not more than k real points, or nothing was generated.
    """
    covered = sum(int(held.any(dim=1).sum()) for held in _held(real, generated, k, rows))
    return covered / len(real)


def density(
    real: Float[Tensor, "n features"], generated: Float[Tensor, "m features"], k: int = NEIGHBOURS, rows: int = 1024
) -> float:
    """Mean number of real balls that hold a generated point, in units of k. Arguments and errors as for `coverage`."""
    pairs = sum(int(held.sum()) for held in _held(real, generated, k, rows))
    return pairs / (k * len(generated))


def _held(real: Tensor, generated: Tensor, k: int, rows: int) -> Iterator[Bool[Tensor, "some m"]]:
    """Which generated points lie within the ball of each real point, for some real points after the other."""
    if len(real) <= k or not len(generated):
        raise ValueError(
            f"balls to neighbour {k} need more than {k} real points and a generated one, not {len(real)} "
            f"and {len(generated)}"
        )
    real, generated = real.double(), generated.double()
    for some in real.split(rows):
        # The point itself is its own nearest neighbour, at distance 0.
        radii = _distances(some, real).kthvalue(k + 1, dim=1, keepdim=True).values
        yield _distances(some, generated) <= radii


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # The other way, |x|² + |y|² − 2x·y, rounds differently for each pair: a point would leave its own ball.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
