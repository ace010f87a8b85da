"""Small topologies, and tasks that write into a ledger at random."""

import torch

from dgm_core.topology import Connection, Topology


def chain(inputs, *widths):
    """Linear layers of these widths, and a head of 2 outputs."""
    ends = [inputs, *widths, 2]
    last = len(widths)
    connections = tuple(
        Connection(f"w{i}", (ends[i + 1], ends[i]), i - 1 if i else None, i if i < last else None, 1, 0)
        for i in range(last + 1)
    )
    return Topology(tuple(f"g{i}" for i in range(last)), widths, connections)


def write(ledger, topology, seed, share=0.5, forbidden=None):
    """One task that opens a random share of the gates; returns its page and the weights that it reads."""
    source = torch.Generator().manual_seed(seed)
    ledger.grow(topology)
    gates = {
        name: (torch.rand(shape, generator=source) < share) & ~(forbidden or {}).get(name, torch.tensor(False))
        for name, shape in ledger.gating.shapes(topology).items()
    }
    reserved = ledger.reserved
    weights = {
        c.name: torch.where(reserved[c.name], ledger.weights[c.name], torch.randn(c.shape, generator=source))
        for c in topology.shared
    }
    masks = ledger.gating.masks(topology, gates)
    return ledger.page(gates, weights), {name: torch.where(masks[name], weights[name], 0.0) for name in masks}
