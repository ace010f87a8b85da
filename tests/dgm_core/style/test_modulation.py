"""mFiLM and mAdaFM on every network that there is  [GANM eq. 4] [GANM eq. 5]."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.networks import ARCHITECTURES
from dgm_core.style.base import Base
from dgm_core.style.foundation import COLUMNS, Foundation
from dgm_core.style.modulation import Site, generator_sites, modulate, normalised, statistics
from dgm_core.training.recipes import STYLE
from dgm_core.training.trainees import Styled
from tests.dgm_core.bases import IMAGE, random_base

SIZES = [*((network, 8) for network in ARCHITECTURES), ("residual", 32), ("residual", 64), ("gpgan", 64)]
"""Networks and the sides of their images: the larger, the more blocks, with shortcuts where they grow narrower."""

networks = pytest.mark.parametrize(("network", "side"), SIZES)


def founded(network, side):
    spec = DataSpec((1, side, side), "uint8")
    return Foundation(random_base(spec=spec, network=network), spec)


def noise_and_classes(foundation, classes, n=6):
    source = torch.Generator().manual_seed(1)
    return torch.randn(n, foundation.base.design.noise, generator=source), torch.arange(n) % classes


@networks
def test_a_task_starts_as_the_base_whatever_its_classes(network, side):
    foundation = founded(network, side)
    base, student = foundation.generator(foundation.style), foundation.student(3).eval()
    z, c = noise_and_classes(foundation, 3)
    torch.testing.assert_close(student(z, c), base(z, torch.zeros_like(c)), atol=1e-5, rtol=1e-5)
    x = torch.rand(5, *foundation.spec.shape) * 2 - 1
    plain = foundation.base.design.discriminator(foundation.spec, 1)
    plain.features.load_state_dict(foundation.base.features)
    critic = foundation.critic(3)
    torch.testing.assert_close(critic.features(x), plain.features(x), atol=1e-5, rtol=1e-4)
    assert torch.equal(critic(x, torch.zeros(5, dtype=torch.long)), critic(x, torch.full((5,), 2)))


@networks
def test_every_layer_but_the_last_is_modulated_and_nothing_else_of_the_base_learns(network, side):
    foundation = founded(network, side)
    student = foundation.student(2)
    frozen = {name: p.detach().clone() for name, p in student.named_parameters() if not p.requires_grad}
    learning = dict(student.named_parameters()).keys() - frozen.keys()
    optimiser = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr=0.1)
    student(*noise_and_classes(foundation, 2)).square().sum().backward()
    optimiser.step()
    after = dict(student.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in frozen.items())
    styled = {name.split(".parametrizations")[0] for name in learning if "parametrizations" in name}
    layers = {c.name.removesuffix(".weight") for c in foundation.generator(foundation.style).topology.shared}
    assert styled == layers
    assert not any(name.startswith(tuple(foundation.frozen)) for name in learning)
    assert all(after[name].grad is not None for name in learning)


@networks
def test_what_a_student_became_is_what_its_style_says(network, side):
    """From the tensors that are stored to the same images."""
    foundation = founded(network, side)
    student = foundation.student(2)
    with torch.no_grad():
        for p in student.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn_like(p))
    biases, makers = foundation.read(student)
    style = biases | {name: maker().detach() for name, maker in makers.items()}
    assert style.keys() == foundation.style.keys()
    z, c = noise_and_classes(foundation, 2)
    atol = 1e-5 if side < 64 else 1e-4  # rounding grows from block to block
    torch.testing.assert_close(foundation.generator(style)(z, c), student.eval()(z, c), atol=atol, rtol=1e-5)
    worn = foundation.student(2)
    foundation.wear(worn, {**style, COLUMNS: style[COLUMNS][:1]}, {})
    first = torch.zeros_like(c)
    torch.testing.assert_close(worn.eval()(z, first), student(z, first), atol=1e-5, rtol=1e-5)


def test_statistics_are_those_of_each_kernel_and_of_each_row():
    weight = torch.randn(5, 4, 3, 3)
    mean, deviation = statistics(weight, (2, 3))
    torch.testing.assert_close(mean, weight.mean((2, 3), keepdim=True))
    torch.testing.assert_close(deviation, weight.std((2, 3), correction=0, keepdim=True))
    rows = torch.randn(6, 7)
    mean, deviation = statistics(rows, (1,))
    assert mean.shape == deviation.shape == (6, 1)
    shape = normalised(rows, mean, deviation)
    torch.testing.assert_close(shape.mean(1), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(shape.std(1, correction=0), torch.ones(6))


def test_a_kernel_without_deviation_is_not_divided_by_zero():
    layer = nn.Conv2d(2, 2, 3)
    nn.init.constant_(layer.weight, 0.5)
    modulate(layer_of := nn.Sequential(layer), [Site("0", (2, 3), 1)])
    torch.testing.assert_close(layer_of[0].weight, torch.full((2, 2, 3, 3), 0.5))


def test_kernels_of_one_weight_have_no_deviation_and_are_modulated_by_row():
    network = random_base(network="residual").design.generator(IMAGE, 1)
    sites = {site.path: site for site in generator_sites(network, 8)}
    assert sites["blocks.0.shortcut"].axes == (1,) and not sites["blocks.0.shortcut"].kernels
    assert sites["blocks.0.conv_1"].axes == (2, 3) and sites["blocks.0.conv_1"].kernels
    assert sites["first"].axes == (0,) and sites["first"].noise == 8


def test_the_ablations_leave_out_what_they_say():
    foundation = Foundation(random_base(network="gpgan"), IMAGE)
    z, c = noise_and_classes(foundation, 1)
    expected = foundation.generator(foundation.style)(z, c)
    plain = foundation.student(1, normalise=False)
    torch.testing.assert_close(plain.eval()(z, c), expected, atol=1e-5, rtol=1e-5)
    scale = next(p for name, p in plain.named_parameters() if name.endswith("scale.value"))
    assert torch.equal(scale, torch.ones_like(scale)), "a style on top of the base's starts at one and zero"
    names = {name for name, p in foundation.student(1, biases=False).named_parameters() if p.requires_grad}
    assert names and all("parametrizations" in name for name in names)
    with_biases, without = (
        {name for name, p in foundation.critic(1, biases=biases).features.named_parameters() if p.requires_grad}
        for biases in (True, False)
    )
    assert without and all("parametrizations" in name for name in without)
    assert any(name.endswith("bias") for name in with_biases)


def test_a_base_serves_every_size_that_its_weights_fit_and_no_other():
    base = random_base(spec=DataSpec((1, 32, 32), "uint8"))
    for side in (28, 25):
        spec = DataSpec((1, side, side), "uint8")
        foundation = Foundation(base, spec)
        assert foundation.generator(foundation.style)(*noise_and_classes(foundation, 1)).shape[1:] == spec.shape
    for shape in ((3, 32, 32), (1, 16, 16), (1, 40, 40)):
        with pytest.raises(CannotLearn, match=r"\(1, 32, 32\).*" + str(shape).replace("(", r"\(").replace(")", r"\)")):
            Foundation(base, DataSpec(shape, "uint8"))
    with pytest.raises(CannotLearn, match="does not fit"):
        Foundation(base, DataSpec((6,), "float32"))


def test_a_base_survives_its_file_and_a_damaged_file_does_not_pass_for_one():
    base = random_base()
    again = Base.unpack(base.blob)
    assert again.digest == base.digest and again.design == base.design
    assert all(torch.equal(again.generator[name], t) for name, t in base.generator.items())
    with pytest.raises(ValueError, match="no blob"):
        Base.unpack(base.blob[:-20])
    with pytest.raises(ValueError, match="no blob"):
        Base.unpack(b"\x80\x04\x95 a pickle")


def test_weights_that_half_precision_cannot_hold_make_no_base():
    base = random_base()
    g, d = base.design.generator(IMAGE, 1), base.design.discriminator(IMAGE, 1)
    torch.nn.init.constant_(g.head.weight, 1e5)
    with pytest.raises(ValueError, match=r"generator/head\.weight holds values .* too large for half precision"):
        Base.of("loud", base.design, g, d, {})


@networks
def test_kernels_and_what_a_task_has_beside_them_learn_at_rates_of_their_own(network, side):
    student = founded(network, side).student(2)
    kernels, others = Styled(student, replace(STYLE, lr_e=0.5)).groups()
    assert "lr" not in kernels and others["lr"] == 0.5
    names = {id(p): name for name, p in student.named_parameters() if p.requires_grad}
    assert {names[id(p)] for p in kernels["params"]} == {n for n in names.values() if ".scale." in n or ".shift." in n}
    assert len(kernels["params"]) + len(others["params"]) == len(names), "nothing is left behind"
