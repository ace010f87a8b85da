from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dgm_core.bundles import Bundle
from dgm_core.experts import FrozenExpert
from dgm_core.networks import architecture_of
from tests.dgm_core.tasks import CLASSES, NOISE, SPECS


def alike(spec, network, count=3):
    """Experts that differ in their values alone."""
    torch.manual_seed(0)
    architecture = architecture_of(network, spec, NOISE)
    networks = [architecture.generator(architecture.initial_widths(2), CLASSES).eval() for _ in range(count)]
    for parameter in (p for each in networks for p in each.parameters()):
        parameter.detach().normal_(std=0.3)
    return [FrozenExpert(each.folded(), (0, 1, 2), NOISE) for each in networks]


def inputs(experts, rows):
    return torch.randn(experts, rows, NOISE), torch.randint(0, CLASSES, (experts, rows))


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("rows", [1, 4])
def test_a_bundle_generates_what_its_experts_generate(spec, rows):
    experts = alike(*spec)
    z, c = inputs(3, rows)
    together = Bundle(experts).generate(z, c)
    alone = torch.stack([expert.generate(*each) for expert, *each in zip(experts, z, c, strict=True)])
    assert together.shape == (3, rows, *spec[0].shape)
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)


def test_the_experts_stay_as_they_are_and_count_once():
    experts = alike(*SPECS[0])
    z, c = inputs(3, 4)
    before = experts[1].generate(z[1], c[1])
    bundle = Bundle(experts)
    bundle.generate(z, c)
    assert torch.equal(experts[1].generate(z[1], c[1]), before)
    assert bundle.nbytes == sum(expert.nbytes for expert in experts)


def test_threads_may_share_a_bundle():
    bundle = Bundle(alike(*SPECS[0]))
    work = [inputs(3, 2) for _ in range(40)]
    expected = [bundle.generate(*each) for each in work]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda each: bundle.generate(*each), work))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_experts_of_other_widths_are_of_another_signature():
    experts = alike(*SPECS[0])
    architecture = architecture_of("dcgan", SPECS[0][0], NOISE)
    wider = architecture.generator([w + 1 for w in architecture.initial_widths(2)], CLASSES).eval()
    for parameter in wider.parameters():
        parameter.detach().normal_()
    with pytest.raises(ValueError, match="several signatures"):
        Bundle([*experts, FrozenExpert(wider.folded(), (0, 1, 2), NOISE)])
