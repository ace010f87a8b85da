import hashlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgm_core import experts
from dgm_core.experts import FrozenExpert, draw
from dgm_core.manifest import DataSpec
from dgm_core.memory import Expert
from dgm_core.networks.norms import reestimate_norms
from tests.dgm_core.tasks import GATINGS, NOISE, SPECS, inputs, masked, materialised, naive

COMPILED_ELSEWHERE = """
import sys
from tests.dgm_core.test_experts import bytes_of
sys.stdout.write(bytes_of(int(sys.argv[1])))
"""


def compiled(spec, kind="dgmw", seed=0, share=0.5):
    g, effective = masked(*spec, GATINGS[kind], seed, share)
    return FrozenExpert(materialised(g, effective).folded(), (0, 1, 2), NOISE)


def bytes_of(index):
    """Digest of samples of an expert, computed by one thread as the server does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return hashlib.sha256(compiled(SPECS[index]).generate(*inputs(64)).numpy().tobytes()).hexdigest()
    finally:
        torch.set_num_threads(threads)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SPECS), st.sampled_from(sorted(GATINGS)), st.integers(0, 1000), st.floats(0, 1))
def test_a_compiled_expert_is_the_masked_generator_but_for_rounding(spec, kind, seed, share):
    g, effective = masked(*spec, GATINGS[kind], seed, share)
    expected = naive(g, effective, *inputs())
    expert = FrozenExpert(materialised(g, effective).folded(), (0, 1, 2), NOISE)
    assert torch.allclose(expert.generate(*inputs()), expected, atol=2e-5, rtol=1e-4)


def test_units_that_a_task_does_not_use_take_no_memory():
    few, all_units = (compiled(SPECS[1], "dgma", share=share).nbytes for share in (0.3, 1.0))
    assert few < all_units / 2


def test_compiling_leaves_the_generator_as_it_was():
    g, effective = masked(*SPECS[3], GATINGS["dgma"], 0, 0.5)
    network = materialised(g, effective)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    FrozenExpert(network.folded(), (0, 1, 2), NOISE)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


@pytest.mark.parametrize("index", range(len(SPECS)))
def test_the_same_tile_is_the_same_bytes_again(index):
    assert bytes_of(index) == bytes_of(index)


@pytest.mark.parametrize("index", [1, 4])
def test_another_process_samples_the_same_bytes(index):
    command = [sys.executable, "-c", COMPILED_ELSEWHERE, str(index)]
    other = subprocess.run(command, check=True, capture_output=True, text=True)
    assert other.stdout == bytes_of(index)


def test_what_other_rows_of_a_tile_hold_does_not_change_a_row():
    expert = compiled(SPECS[1])
    z, c = inputs(64)
    whole = expert.generate(z, c)
    z[32:], c[32:] = 0, 0
    assert torch.equal(expert.generate(z, c)[:32], whole[:32])


def test_an_expert_that_is_compiled_in_another_way_has_another_digest(monkeypatch):
    before = compiled(SPECS[0]).digest
    assert compiled(SPECS[0]).digest == before
    monkeypatch.setattr(experts, "COMPILATION", experts.COMPILATION + 1)
    assert compiled(SPECS[0]).digest != before


@pytest.mark.parametrize(("side", "sizes"), [(32, [256, 144]), (256, [16] * 25)])
def test_fewer_large_images_are_drawn_at_once(side, sizes):
    spec, seen = DataSpec((3, side, side), "uint8"), []

    class Wide(Expert):
        digest, noise_dim, nbytes, classes = "", 4, 0, (0,)

        def generate(self, z, c):
            seen.append(len(z))
            return torch.zeros(len(z), 1, 1, 1).expand(-1, *spec.shape)

        def to(self, device):
            return self

    x = draw(Wide(), 0, 400, spec, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert x.shape == (400, *spec.shape) and [size for size in seen if size] == sizes


def test_a_network_without_norms_is_not_run_to_measure_them():
    network, draws = torch.nn.Linear(4, 4), [(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))]
    reestimate_norms(network, lambda z, c: pytest.fail("there is nothing to measure"), draws)
    assert not network.training
