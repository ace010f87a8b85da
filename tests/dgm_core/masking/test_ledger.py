import torch
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.blobs import pack, unpack
from dgm_core.masking.ledger import Ledger, Page


def page(ledger, shapes, seed):
    """A task that masks a random half of weights of these shapes, its own weights random."""
    source = torch.Generator().manual_seed(seed)
    masks = {name: torch.rand(shape, generator=source) > 0.5 for name, shape in shapes.items()}
    ledger.grow(shapes)
    weights = {
        name: torch.where(ledger.reserved[name], ledger.weights[name], torch.randn(shape, generator=source))
        for name, shape in shapes.items()
    }
    return ledger.page(masks, weights), {name: torch.where(masks[name], weights[name], 0.0) for name in masks}


growths = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5)


@given(growths, st.integers(0, 1000))
def test_growth_and_later_tasks_leave_every_old_experts_weights_bit_identical(growth, seed):
    ledger, truth, rows, columns = Ledger(), [], 2, 3
    for index, (more_rows, more_columns) in enumerate(growth):
        rows, columns = rows + more_rows, columns + more_columns
        written, effective = page(ledger, {"a": (rows, columns), "b": (columns,)}, seed + index)
        ledger.append(written)
        truth.append(effective)
        for old, expected in enumerate(truth):
            assert all(torch.equal(ledger.effective(old)[name], expected[name]) for name in expected)


@given(growths, st.integers(0, 1000))
def test_pages_survive_their_blob_and_rebuild_the_same_ledger(growth, seed):
    ledger, rebuilt, rows = Ledger(), Ledger(), 1
    for index, (more, _) in enumerate(growth):
        rows += more
        written, _ = page(ledger, {"a": (rows, 7)}, seed + index)
        ledger.append(written)
        rebuilt.append(Page.from_tensors(unpack(pack(written.tensors(), {}))[0]))
    assert torch.equal(ledger.weights["a"], rebuilt.weights["a"])
    assert torch.equal(ledger.reserved["a"], rebuilt.reserved["a"])


def test_a_page_holds_one_bit_per_weight_and_only_newly_reserved_values():
    ledger = Ledger()
    first, _ = page(ledger, {"a": (64, 64)}, 0)
    ledger.append(first)
    second, _ = page(ledger, {"a": (64, 64)}, 1)
    assert second.tensors()["mask/a"].numel() == 64 * 64 // 8
    assert second.values["a"].numel() == int((second.masks["a"] & ~first.masks["a"]).sum())


def test_usage_tells_new_from_reused():
    ledger = Ledger()
    ledger.append(Page({"a": torch.tensor([True, False, False])}, {"a": torch.ones(1)}))
    ledger.append(Page({"a": torch.tensor([True, True, False])}, {"a": torch.ones(1)}))
    assert ledger.usage(1) == {"a": {"new": 1, "reused": 1, "size": 3}}
