import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgm_core.networks import architecture_of
from dgm_core.pruning import live_units
from tests.dgm_core.masking.shapes import chain
from tests.dgm_core.tasks import GATINGS, NOISE, SPECS, inputs, masked, materialised

TASKS = {
    "spec": st.sampled_from(SPECS),
    "kind": st.sampled_from(sorted(GATINGS)),
    "seed": st.integers(0, 1000),
    "share": st.floats(0, 1),
}


def paths(topology, weights):
    """Per group and unit, whether any product of weights on its way to the output is other than zero."""
    reach = [torch.zeros(width, dtype=torch.float64) for width in topology.widths]
    for c in reversed(topology.connections):
        if c.reads is None:
            continue
        places = [axis for axis in range(len(c.shape)) if axis not in (c.in_axis, c.out_axis)]
        size = weights[c.name].double().abs().permute(c.in_axis, c.out_axis, *places).flatten(1)
        size = size.view(*(c.shape[axis] for axis in (c.in_axis, c.out_axis)), -1).sum(2)
        reach[c.reads] += size @ (torch.ones(size.shape[1]) if c.writes is None else reach[c.writes]).double()
    return [each > 0 for each in reach]


@settings(max_examples=40, deadline=None)
@given(**TASKS)
def test_a_unit_goes_exactly_if_no_weight_leads_from_it_to_the_output(spec, kind, seed, share):
    g, effective = masked(*spec, GATINGS[kind], seed, share)
    kept = live_units(g.topology, effective)
    for units, reaches in zip(kept, paths(g.topology, effective), strict=True):
        expected = torch.nonzero(reaches).flatten()
        assert torch.equal(units, expected if len(expected) else torch.zeros(1, dtype=torch.long))


@settings(max_examples=20, deadline=None)
@given(**TASKS)
def test_what_goes_could_have_held_anything(spec, kind, seed, share):
    g, effective = masked(*spec, GATINGS[kind], seed, share)
    kept = live_units(g.topology, effective)
    network = materialised(g, effective)
    before = network.folded().narrowed(kept)(*inputs())
    with torch.no_grad():
        for c in network.topology.shared:
            gone = torch.ones(c.shape[c.out_axis], dtype=torch.bool)
            gone[kept[c.writes]] = False
            network.get_parameter(c.name).transpose(0, c.out_axis)[gone] = 7.0
    assert torch.equal(network.folded().narrowed(kept)(*inputs()), before)
    assert torch.allclose(network(*inputs()), before, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(spec=TASKS["spec"], seed=TASKS["seed"], share=TASKS["share"])
def test_of_a_mask_per_unit_only_open_units_are_left(spec, seed, share):
    """Exactly those, but for open ones that only closed ones read."""
    g, effective = masked(*spec, GATINGS["dgma"], seed, share)
    readers = [[c for c in g.topology.connections if c.reads == group] for group in range(len(g.topology.groups))]
    for units, reading in zip(live_units(g.topology, effective), readers, strict=True):
        read = sum(effective[c.name].abs().transpose(0, c.in_axis).flatten(1).sum(1) for c in reading)
        assert (read[units] > 0).all() or units.tolist() == [0]


def test_a_unit_that_only_dead_ends_read_is_a_dead_end():
    topology = chain(3, 2, 2)
    weights = {
        "w0": torch.ones(2, 3),
        "w1": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        "w2": torch.tensor([[1.0, 0.0]] * 2),
    }
    assert [units.tolist() for units in live_units(topology, weights)] == [[0], [0]]


def test_where_nothing_matters_one_unit_of_every_group_stays():
    topology = chain(3, 2, 4)
    nothing = {c.name: torch.zeros(c.shape) for c in topology.connections}
    assert [units.tolist() for units in live_units(topology, nothing)] == [[0], [0]]


@pytest.mark.parametrize(("spec", "network"), SPECS)
def test_a_generator_is_narrowed_to_any_units_of_its_groups(spec, network):
    architecture = architecture_of(network, spec, NOISE)
    g = architecture.generator(architecture.initial_widths(2), 3).eval().folded()
    kept = [torch.arange(0, width, 2) for width in g.topology.widths]
    small = g.narrowed(kept)
    assert small.topology == g.topology.at([len(units) for units in kept])
    assert small(*inputs()).shape == g(*inputs()).shape
