"""Grids: the spatial sizes that a convolutional generator passes through, for images of any side from 8 to 256."""

SMALLEST_SIDE = 4
FEWEST_STAGES = 2

Grid = tuple[int, int]


def grids(height: int, width: int) -> list[Grid]:
    """Sizes from the first stage to the full image, each half of the next, rounded up.

    The coarsest has no side above 4, and there are at least two doublings: 28 × 28 gives 4, 7, 14, 28; 8 × 8 gives
    2, 4, 8. A stage doubles its input and crops what rounding added, so that no side needs to be a power of two.
    """
    sizes = [(height, width)]
    while max(sizes[0]) > SMALLEST_SIDE or len(sizes) <= FEWEST_STAGES:
        height, width = sizes[0]
        sizes.insert(0, (-(-height // 2), -(-width // 2)))
    return sizes
