import pytest
import torch
from torch.func import functional_call

from dgm_core.manifest import DataSpec
from dgm_core.masking.gating import UnitGating
from dgm_core.networks.residual import Residual
from tests.dgm_core.networks.tracing import with_a_unit_off

SPEC = DataSpec((3, 32, 32), "uint8")
Z, C = torch.randn(4, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(4, dtype=torch.long)


def fresh(widths):
    torch.manual_seed(0)
    return Residual(SPEC, 16).generator(widths, 1).eval()


def test_the_sum_of_a_block_is_one_group_which_both_its_convolution_and_its_shortcut_write():
    topology = Residual(SPEC, 16).topology(Residual(SPEC, 16).initial_widths(2))
    assert topology.groups[:3] == ("first", "blocks.0.hidden", "blocks.0.sum")
    assert topology.widths == (8,) * 7
    writers = {c.name for c in topology.shared if c.writes == 2}
    assert writers == {"blocks.0.conv_2.weight", "blocks.0.shortcut.weight"}
    readers = {c.name for c in topology.connections if c.reads == 2}
    assert readers == {"blocks.1.conv_1.weight", "blocks.1.shortcut.weight"}


@pytest.mark.parametrize("group", range(7))
def test_a_unit_that_is_switched_off_in_any_group_leaves_no_trace(group):
    """Not through the shortcut, not through a norm's shift: what it holds cannot be seen in the image."""
    before, after, seen = with_a_unit_off(fresh((5, 4, 5, 4, 5, 4, 5)), group, Z, C)
    assert torch.equal(before, after)
    assert not torch.equal(after, seen)


def test_growth_of_every_group_keeps_what_the_old_units_computed():
    small, large = fresh((4, 3, 4, 3, 4, 3, 4)), fresh((6, 5, 6, 5, 6, 5, 6))
    state = large.state_dict()
    for name, tensor in small.state_dict().items():
        corner = tuple(slice(0, extent) for extent in tensor.shape)
        state[name][corner] = tensor
    topology = large.topology
    sizes = zip(topology.groups, topology.widths, small.topology.widths, strict=True)
    gates = {group: torch.arange(width) < before for group, width, before in sizes}
    weights = {c.name: large.get_parameter(c.name) for c in topology.connections}
    effective = UnitGating().effective(topology, weights, gates)
    assert torch.allclose(functional_call(large, effective, (Z, C)), small(Z, C), atol=1e-6)
