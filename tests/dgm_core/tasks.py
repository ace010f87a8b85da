"""Generators seen through random masks, as a task of a long memory would see them."""

import torch
from torch.func import functional_call

from dgm_core.manifest import DataSpec
from dgm_core.masking.gating import UnitGating, WeightGating
from dgm_core.networks import architecture_of
from dgm_core.topology import spread

GATINGS = {"dgmw": WeightGating(), "dgma": UnitGating()}
SPECS = [
    (DataSpec((1, 8, 8), "uint8"), "dcgan"),
    (DataSpec((1, 28, 28), "uint8"), "dcgan"),
    (DataSpec((3, 30, 17), "uint8"), "dcgan"),
    (DataSpec((3, 16, 16), "uint8"), "residual"),
    (DataSpec((3, 30, 17), "uint8"), "residual"),
    (DataSpec((12,), "float32"), "auto"),
    (DataSpec((3, 8, 8), "uint8"), "gpgan"),
    (DataSpec((3, 30, 17), "uint8"), "gpgan"),
]
NOISE, CLASSES = 8, 3


def masked(spec, network, gating, seed, share):
    """A network in evaluation mode with random norms, and the effective weights of a task with random gates.

    Beside a random share of the gates, whole units are switched off, as training does.
    """
    torch.manual_seed(seed)
    architecture = architecture_of(network, spec, NOISE)
    widths = [w + int(torch.randint(0, 5, ())) for w in architecture.initial_widths(2)]
    g = architecture.generator(widths, CLASSES)
    with torch.no_grad():
        for p in g.parameters():
            p.normal_(std=0.3)
    g(torch.randn(32, NOISE), torch.arange(32) % CLASSES)  # moves the norms' statistics away from their start
    topology = g.eval().topology
    gates = {name: torch.rand(shape) < share for name, shape in gating.shapes(topology).items()}
    for c in topology.shared:
        if c.name in gates and c.reads is not None:
            unread = torch.rand(c.shape[c.in_axis]) < (1 - share) / 2
            gates[c.name] = gates[c.name] & ~spread(unread, c.in_axis, c)
    weights = {c.name: g.get_parameter(c.name).detach() for c in topology.connections}
    own = {name: w for name, w in gating.effective(topology, weights, gates).items() if name.startswith("head")}
    shared = {name: weights[name] * mask for name, mask in gating.masks(topology, gates).items()}
    return g, weights | shared | own


def naive(g, effective, z, c):
    """What a user would run: the network at its full width with the effective weights put in."""
    with torch.no_grad():
        return functional_call(g, effective, (z, c))


def materialised(g, effective):
    """The network with its effective weights in place."""
    g.load_state_dict({**g.state_dict(), **effective})
    return g


def inputs(n=16, seed=0):
    """Noise and classes."""
    return torch.randn(n, NOISE, generator=torch.Generator().manual_seed(seed)), torch.arange(n) % CLASSES
