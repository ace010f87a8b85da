from itertools import pairwise

import pytest
import torch
from torch.func import functional_call

from dgm_core.manifest import DataSpec
from dgm_core.masking.expansion import expanded_widths
from dgm_core.masking.gating import UnitGating
from dgm_core.memories import load_memory, new_manifest
from dgm_core.memory import TaskData, Terms
from dgm_core.networks.gpgan import Gpgan, multiples
from tests.dgm_core.networks.tracing import with_a_unit_off

SPEC = DataSpec((3, 16, 16), "uint8")
LARGE = DataSpec((3, 256, 256), "uint8")
Z, C = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(4, dtype=torch.long)
GROUPS = range(len(Gpgan(SPEC, 8).initial_widths(1)))


def fresh(widths, seed=0):
    """A generator in evaluation mode whose biases are not zero."""
    torch.manual_seed(seed)
    network = Gpgan(SPEC, 8).generator(widths, 1).eval()
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.endswith("bias"):
                p.normal_(std=0.3)
    return network


def test_at_256_pixels_it_is_the_published_network():
    """257 columns of its first layer hold the label's; the published layer has a bias beside them."""
    architecture = Gpgan(LARGE, 256)
    widths = architecture.initial_widths(64)
    with torch.device("meta"):
        g, d = architecture.generator(widths, 1, embedding=1), architecture.discriminator(1, 4, 64)
    shapes = {name: tuple(p.shape) for name, p in g.named_parameters()}
    assert shapes["first.weight"] == (257, 1024, 4, 4) and shapes["head.weight"] == (3, 64, 7, 7)
    written = [shapes[f"blocks.{index}.conv_1.weight"][0] for index in range(7)]
    assert written == [1024, 1024, 512, 256, 128, 64, 64]
    assert [name for name in shapes if "conv_s" in name] == [f"blocks.{index}.conv_s.weight" for index in (2, 3, 4, 5)]
    published = g.topology.parameters + sum(p.numel() for n, p in g.named_parameters() if n.endswith("bias"))
    published += shapes["head.weight"][0] * 64 * 49 + 1024 * 16
    assert round(published / 1e6, 1) == 52.2
    assert d.score.in_features == 1024 * 4 * 4


@pytest.mark.parametrize("doublings", range(2, 7))
def test_widths_fall_towards_the_image_by_halves_at_most(doublings):
    found = multiples(doublings)
    assert len(found) == doublings + 2 and found[-1] == 1
    assert all(before in (after, 2 * after) for before, after in pairwise(found))


def test_a_sum_that_goes_on_unchanged_is_one_group_with_several_writers():
    topology = Gpgan(LARGE, 16).topology(Gpgan(LARGE, 16).initial_widths(2))
    assert topology.widths[:5] == (32, 32, 32, 16, 16)
    assert {c.name for c in topology.shared if c.writes == 0} == {
        "first.weight",
        "blocks.0.conv_1.weight",
        "blocks.1.conv_1.weight",
    }
    readers = {c.name for c in topology.connections if c.reads == 0}
    assert readers == {f"blocks.{index}.conv_0.weight" for index in range(3)} | {"blocks.2.conv_s.weight"}


def test_widths_that_have_grown_to_be_equal_do_not_make_a_shortcut_the_identity():
    grown = fresh([4] * len(GROUPS))
    assert {name for name, _ in grown.named_parameters()} == {
        name for name, _ in fresh(Gpgan(SPEC, 8).initial_widths(2)).named_parameters()
    }


def test_a_fresh_generator_has_no_bias_and_neither_fades_nor_saturates():
    torch.manual_seed(0)
    architecture = Gpgan(DataSpec((3, 64, 64), "uint8"), 64)
    g = architecture.generator(architecture.initial_widths(8), 2)
    assert all((p == 0).all() for name, p in g.named_parameters() if name.endswith("bias"))
    x = g(torch.randn(16, 64), torch.zeros(16, dtype=torch.long))
    assert 0.3 < x.std() < 0.9


@pytest.mark.parametrize("group", GROUPS)
def test_a_unit_that_is_switched_off_in_any_group_leaves_no_trace(group):
    """Not through an identity, not through a bias: what it holds cannot be seen in the image."""
    before, after, seen = with_a_unit_off(fresh([5] * len(GROUPS)), group, Z, C)
    assert torch.equal(before, after)
    assert not torch.equal(after, seen)


def test_growth_of_every_group_keeps_what_the_old_units_computed():
    small, large = fresh([4 + group % 2 for group in GROUPS]), fresh([6 + group % 3 for group in GROUPS], seed=1)
    state = large.state_dict()
    for name, tensor in small.state_dict().items():
        state[name][tuple(slice(0, extent) for extent in tensor.shape)] = tensor
    topology = large.topology
    sizes = zip(topology.groups, topology.widths, small.topology.widths, strict=True)
    gates = {group: torch.arange(width) < before for group, width, before in sizes}
    weights = {c.name: large.get_parameter(c.name) for c in topology.connections}
    effective = UnitGating().effective(topology, weights, gates)
    assert torch.allclose(functional_call(large, effective, (Z, C)), small(Z, C), atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_after_a_task_every_layer_has_at_least_the_capacity_that_was_free_before_the_first(share):
    architecture = Gpgan(LARGE, 16)
    initial = architecture.topology(architecture.initial_widths(1))
    reserved = {c.name: int(share * c.size) for c in initial.shared}
    grown = initial.at(expanded_widths(initial, initial, reserved))
    assert all(c.size - reserved[c.name] >= before.size for c, before in zip(grown.shared, initial.shared, strict=True))
    assert share or grown == initial


def rows(*lit, n=40):
    """n images per class, each class with one bright row."""
    x = torch.randint(0, 60, (n * len(lit), 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for index, row in enumerate(lit):
        x[index * n : (index + 1) * n, :, row] = 230
    return TaskData(x, torch.arange(len(lit)).repeat_interleave(n), tuple(f"row {row}" for row in lit))


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("kind", ["dgmw", pytest.param("dgma", marks=pytest.mark.slow)])
def test_a_masked_memory_learns_through_it_and_keeps_the_bytes_of_its_old_task(kind):
    manifest, blobs = new_manifest(kind, {"network": "gpgan", "width": "4"}, DataSpec((1, 8, 8), "uint8"), seed=0), {}
    z, c = torch.randn(64, 64, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 2
    seen = []
    for task, lit, steps in (("t0", (1, 6), 60), ("t1", (2, 5), 30)):
        learned = load_memory(manifest, blobs).learn(
            rows(*lit), task=task, terms=Terms(steps=steps), report=lambda p: None, device=torch.device("cpu")
        )
        manifest, blobs = manifest.commit(learned), blobs | learned.blobs
        seen.append(load_memory(manifest, blobs).expert(manifest.tasks[0].experts[0].digest).generate(z, c))
    brightest = seen[0].mean(dim=(1, 3)).argmax(1)
    assert (brightest == torch.tensor([1, 6])[c]).float().mean() > 0.9, "each class is the row that it was taught"
    assert torch.equal(*seen)
