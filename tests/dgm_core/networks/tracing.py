"""Looks whether a unit behind a closed gate can be seen in what a generator makes."""

import torch
from torch.func import functional_call

from dgm_core.masking.gating import UnitGating


def with_a_unit_off(network, group, z, c, unit=2):
    """Images with the gate of one unit closed; the same once all that writes the unit is overwritten; with it open."""
    topology, gating = network.topology, UnitGating()
    gates = {name: torch.ones(width) for name, width in zip(topology.groups, topology.widths, strict=True)}
    gates[topology.groups[group]][unit] = 0
    weights = {connection.name: network.get_parameter(connection.name) for connection in topology.connections}
    before = functional_call(network, gating.effective(topology, weights, gates), (z, c))
    with torch.no_grad():
        for connection in topology.shared:
            if connection.writes == group:
                layer = network.get_submodule(connection.name.removesuffix(".weight"))
                layer.weight.select(connection.out_axis, unit).fill_(7.0)
                if layer.bias is not None:
                    layer.bias[unit] = 7.0
    after = functional_call(network, gating.effective(topology, weights, gates), (z, c))
    return before, after, functional_call(network, weights, (z, c))
