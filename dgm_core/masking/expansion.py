"""Expansion: after each task every layer grows until its free capacity is what it was before the first  [DGM sec. 3.2].

A layer with n weights per output unit and δ missing free weights gets ⌈δ/n⌉ units. The units that the layer below has
just gained add free weights too, and are counted first. Layers that write to one group of units grow together: by what
the neediest of them lacks. Where a residual block writes back to the group that it reads, what its hidden units gain
comes on top.
"""

from collections.abc import Mapping

from dgm_core.topology import Topology


def expanded_widths(initial: Topology, last: Topology, reserved: Mapping[str, int]) -> tuple[int, ...]:
    """Widths at which every layer has its initial capacity free again  [DGM sec. 3.2].

    Arguments:
        initial: before the first task: its sizes are the capacity.
        last: as it is now.
        reserved: weights per layer that tasks have reserved.
    """
    capacity = {c.name: c.size for c in initial.shared}
    grown = last
    for group in range(len(last.groups)):
        writers = [c for c in grown.shared if c.writes == group]
        units = grown.widths[group]
        missing = [-(-(capacity[c.name] - c.size + reserved[c.name]) // (c.size // units)) for c in writers]
        widths = [*grown.widths]
        widths[group] += max(0, *missing)
        grown = grown.at(widths)
    return grown.widths
