"""Expansion: after each task every layer grows until its free capacity is what it was before the first  [DGM sec. 3.2].

A layer with n weights per output unit and δ missing free weights gets ⌈δ/n⌉ units. The units that the layer below has
just gained add free weights too, and are counted first.
"""

from collections.abc import Callable, Sequence

Sizes = Callable[[Sequence[int]], Sequence[int]]
"""Widths of all layers -> number of weights of each layer."""


def expanded_widths(
    widths: Sequence[int], reserved: Sequence[int], capacity: Sequence[int], sizes: Sizes
) -> tuple[int, ...]:
    """Widths at which every layer has its initial capacity free again  [DGM sec. 3.2].

    Arguments:
        widths: output units per layer, input side first.
        reserved: weights per layer that tasks have reserved.
        capacity: weights per layer before the first task.
        sizes: counts the weights per layer for given widths; those of layer l depend on widths[: l + 1] alone.
    """
    grown = list(widths)
    for layer, (taken, wanted) in enumerate(zip(reserved, capacity, strict=True)):
        size = sizes(grown)[layer]
        per_unit = size // grown[layer]
        missing = wanted - (size - taken)
        grown[layer] += max(0, -(-missing // per_unit))
    return tuple(grown)
