"""A GAN of several tasks: views, growth, alignment."""

from dataclasses import replace

import pytest
import torch

from dgm_core.checkpoints import NONE
from dgm_core.generative.aligned import Aligned
from dgm_core.generative.gan import GanMaker
from dgm_core.manifest import DataSpec
from dgm_core.memory import TaskData
from dgm_core.networks import architecture_of
from dgm_core.training.clock import Clock
from dgm_core.training.recipes import RETRAINED

IMAGE, VECTOR = DataSpec((1, 8, 8), "uint8"), DataSpec((5,), "float32")
CPU = torch.device("cpu")


def maker(spec=IMAGE, network="auto", **recipe):
    return GanMaker(architecture_of(network, spec, 8), 2, replace(RETRAINED, batch=16, **recipe))


def examples(spec, *labels, n=20):
    y = torch.arange(n) % len(labels)
    x = torch.randn(n, *spec.shape) * 3 + 7
    if spec.is_image:
        x = torch.randint(0, 256, x.shape, dtype=torch.uint8)
    return TaskData(x, y, labels)


def fit(made_by, data, start=None, steps=12):
    model, _ = made_by.fit(data, start, steps, Clock(lambda progress: None), CPU, NONE)
    return model


def generated(model, label, n=16):
    z = torch.randn(n, 8, generator=torch.Generator().manual_seed(1))
    return model.expert((label,)).generate(z, torch.zeros(n, dtype=torch.int64))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("network", ["dcgan", "residual", "gpgan"])
def test_a_view_of_some_classes_generates_what_the_whole_does(network):
    model = fit(maker(network=network), examples(IMAGE, "a", "b", "c"), steps=2)
    z, c = torch.randn(8, 8), torch.arange(8) % 2
    some, whole = model.expert(("c", "a")), model.expert(model.classes)
    assert torch.equal(some.generate(z, c), whole.generate(z, torch.tensor([2, 0])[c]))
    assert some.classes == ("c", "a") and some.digest != whole.digest


@pytest.mark.parametrize("spec", [IMAGE, VECTOR])
def test_a_model_is_made_again_from_its_tensors(spec):
    made_by = maker(spec)
    model = fit(made_by, examples(spec, 0, 1))
    again = made_by.load(model.tensors(), model.about())
    assert again.classes == model.classes == (0, 1)
    assert torch.equal(generated(again, 1), generated(model, 1))


def test_a_gan_infers_nothing_and_reconstructs_x_as_it_is():
    x = examples(IMAGE, 0).x
    assert fit(maker(), examples(IMAGE, 0), steps=1).reconstruct(x) is x


def test_a_model_goes_on_from_where_it_started_with_rows_of_their_own_for_new_classes():
    """Where retraining has no rate of learning, and the network no norms, nothing moves at all."""
    still = maker(network="gpgan", retraining=0.0)
    start = fit(still, examples(IMAGE, 0, 1))
    grown = fit(still, examples(IMAGE, 2, 1, 0), start)
    assert grown.classes == (0, 1, 2)
    for label in (0, 1):
        assert torch.equal(generated(grown, label), generated(start, label))
    assert not torch.equal(generated(grown, 2), generated(start, 1))


def test_a_model_of_vectors_goes_on_in_the_scale_of_the_data_that_it_is_shown_next():
    still = maker(VECTOR, retraining=0.0)
    start = fit(still, examples(VECTOR, 0, 1))
    before = generated(start, 0)
    wider = examples(VECTOR, 0, 1)
    grown = fit(still, replace(wider, x=wider.x * 10 - 50), start)
    assert torch.allclose(grown.network.out.scale, torch.std(wider.x * 10, dim=0, correction=0))
    assert torch.allclose(generated(grown, 0).mean(0), before.mean(0), atol=0.5), "norms are measured anew"


def test_classes_that_are_not_shown_are_held_in_place_by_alignment():
    start = fit(maker(), examples(IMAGE, 0, 1), steps=60)
    moved = {}
    for weight in (0.0, 20.0):
        grown = fit(maker(alignment=weight, retraining=1.0), examples(IMAGE, 2), start, steps=60)
        moved[weight] = max(float((generated(grown, c) - generated(start, c)).square().mean()) for c in (0, 1))
    assert moved[20.0] < moved[0.0] / 2


def test_alignment_costs_the_squared_distance_that_an_example_has_moved():
    network = fit(maker(network="gpgan"), examples(IMAGE, 0, 1), steps=1).network
    g = Aligned(network, torch.tensor([1]), torch.tensor([0]), 0.5)
    inputs = torch.randn(6, 8), torch.zeros(6, dtype=torch.int64)
    assert g.with_cost(*inputs)[1] == 0
    with torch.no_grad():
        network.embedding.weight[1] += 1
        assert g.with_cost(*inputs)[1] == 0, "what is learned may move"
        network.head.weight.zero_()
        network.head.bias.zero_()
    torch.manual_seed(5)
    x, cost = g.with_cost(*inputs)
    torch.manual_seed(5)
    z_held, c_held = g._replay(inputs[0])
    assert not x.any() and torch.allclose(cost, 0.5 * g.before(z_held, c_held).square().mean())


def test_nothing_is_held_where_the_data_shows_all_classes():
    network = fit(maker(), examples(IMAGE, 0, 1), steps=1).network
    g = Aligned(network, torch.tensor([1, 0]), torch.tensor([], dtype=torch.int64), 1.0)
    z, c = torch.randn(4, 8), torch.tensor([0, 1, 1, 0])
    x, cost = g.with_cost(z, c)
    assert torch.equal(x, network(z, 1 - c)) and cost == 0


def test_what_is_held_is_seen_by_norms_wherever_they_look():
    start = fit(maker(), examples(IMAGE, 0, 1))
    seen = []
    g = Aligned(start.network.train(), torch.tensor([1]), torch.tensor([0]), 1.0)
    start.network.norms[0].register_forward_hook(lambda module, inputs, _: seen.append(len(inputs[0])))
    z, c = torch.randn(6, 8), torch.zeros(6, dtype=torch.int64)
    assert g(z, c).shape == (6, *IMAGE.shape)
    g.with_cost(z, c)
    assert seen == [12, 12]
