import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.blobs import pack, unpack
from dgm_core.masking.gating import UnitGating, WeightGating
from dgm_core.masking.ledger import Ledger, Page
from tests.dgm_core.masking.shapes import chain, write

gatings = st.sampled_from([WeightGating(), UnitGating()])
growths = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5)
seeds = st.integers(0, 1000)


def topologies(growth):
    first, second = 2, 3
    for more_first, more_second in growth:
        first, second = first + more_first, second + more_second
        yield chain(3, first, second)


@given(gatings, growths, seeds)
def test_growth_and_later_tasks_leave_every_old_experts_weights_bit_identical(gating, growth, seed):
    ledger, truth = Ledger(gating), []
    for index, topology in enumerate(topologies(growth)):
        written, effective = write(ledger, topology, seed + index)
        ledger.append(written, topology)
        truth.append(effective)
        for old, expected in enumerate(truth):
            assert all(torch.equal(ledger.effective(old)[name], expected[name]) for name in expected)


@given(gatings, growths, seeds)
def test_pages_survive_their_blob_and_rebuild_the_same_ledger(gating, growth, seed):
    ledger, rebuilt = Ledger(gating), Ledger(gating)
    for index, topology in enumerate(topologies(growth)):
        written, _ = write(ledger, topology, seed + index)
        ledger.append(written, topology)
        tensors, _ = unpack(pack(written.tensors(), {}))
        rebuilt.append(Page.from_tensors(tensors, gating.shapes(topology)), topology)
    for name, weights in ledger.weights.items():
        assert torch.equal(rebuilt.weights[name], weights)
        assert torch.equal(rebuilt.reserved[name], ledger.reserved[name])


@given(gatings, growths, seeds, st.integers(0, 4))
def test_a_task_that_nobody_reuses_can_be_taken_out_without_moving_a_bit_of_the_others(gating, growth, seed, which):
    """Erasure: the ledger without its page serves the same weights, and its own entries are free again."""
    which = which % len(growth)
    ledger, pages, truth, forbidden = Ledger(gating), [], [], []
    for index, topology in enumerate(topologies(growth)):
        ledger.grow(topology)
        written, effective = write(ledger, topology, seed + index, forbidden=ledger.owned_by(forbidden))
        ledger.append(written, topology)
        pages.append((written, topology))
        truth.append(effective)
        if index == which:
            forbidden.append(index)
    del pages[which], truth[which]
    without = Ledger(gating)
    for page in pages:
        without.append(*page)
    for index, expected in enumerate(truth):
        assert all(torch.equal(without.effective(index)[name], expected[name]) for name in expected)
    without.grow(ledger.topology)
    for name, own in ledger.owned[which].items():
        corner = tuple(slice(0, extent) for extent in own.shape)
        assert not (without.claimed[name][corner] & own).any()


def test_who_reuses_whom_is_known():
    ledger = Ledger(WeightGating())
    topology = chain(1, 3)
    for open_gates in ([True, False, False], [False, True, False], [True, False, True]):
        gates = {"w0": torch.tensor(open_gates)[:, None]}
        ledger.grow(topology)
        ledger.append(ledger.page(gates, {"w0": torch.ones(3, 1)}), topology)
    assert ledger.reused_by(ledger.pages[2].gates) == [0, 2]
    assert ledger.owned_by([1])["w0"].flatten().tolist() == [False, True, False]


@pytest.mark.parametrize(("gating", "gates"), [(WeightGating(), 64 * 64 + 64 * 32), (UnitGating(), 64 + 32)])
def test_a_page_holds_one_bit_per_gate_and_only_newly_reserved_values(gating, gates):
    ledger, topology = Ledger(gating), chain(64, 64, 32)
    first, _ = write(ledger, topology, 0)
    ledger.append(first, topology)
    second, _ = write(ledger, topology, 1)
    packed = second.tensors()
    assert sum(packed[key].numel() for key in packed if key.startswith("gates/")) == gates // 8
    masks, reserved = gating.masks(topology, second.gates), ledger.reserved
    for name, mask in masks.items():
        assert second.values[name].numel() == int((mask & ~reserved[name]).sum()) > 0


def test_usage_tells_new_from_reused_from_free():
    ledger, topology = Ledger(WeightGating()), chain(1, 4)
    for open_gates in ([True, False, False, False], [True, True, False, False]):
        ledger.grow(topology)
        gates = {"w0": torch.tensor(open_gates)[:, None]}
        ledger.append(ledger.page(gates, {"w0": torch.ones(4, 1)}), topology)
    assert ledger.usage(0) == {"w0": {"size": 4, "reserved": 1, "reused": 0, "free": 3}}
    assert ledger.usage(1) == {"w0": {"size": 4, "reserved": 1, "reused": 1, "free": 2}}
