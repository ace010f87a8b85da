"""Variational autoencoders as models: conditional samples, reconstruction without a label, going on from one."""

from dataclasses import replace

import pytest
import torch

from dgm_core.checkpoints import NONE
from dgm_core.errors import TrainingDiverged
from dgm_core.generative.vae import VaeMaker
from dgm_core.manifest import DataSpec
from dgm_core.memory import TaskData
from dgm_core.training.clock import Clock
from dgm_core.training.variational import VAE, VAE_PAPER

CPU = torch.device("cpu")
VECTOR, IMAGE = DataSpec((4,), "float32"), DataSpec((1, 8, 8), "uint8")
MAKER = VaeMaker(VECTOR, replace(VAE, lr=5e-3, batch=32), "auto", 4, 4, encoder=32)


def clusters(labels, n=200):
    """Vectors around 10·label on their first axis, far from 0 and of unequal scales."""
    source = torch.Generator().manual_seed(1)
    y = torch.arange(len(labels)).repeat_interleave(n)
    x = torch.randn(len(y), 4, generator=source) * torch.tensor([0.5, 3.0, 1.0, 0.1]) + 100
    x[:, 0] += 10 * torch.tensor(labels)[y]
    return TaskData(x, y, tuple(labels))


def fit(maker, data, start=None, steps=200):
    torch.manual_seed(0)
    return maker.fit(data, start, steps, Clock(lambda progress: None), CPU, NONE)[0]


@pytest.fixture(scope="module")
def model():
    return fit(MAKER, clusters([0, 1, 2]))


def sampled(model, label):
    torch.manual_seed(0)
    return model.expert((label,)).generate(torch.randn(200, 4), torch.zeros(200, dtype=torch.long))


def test_a_class_is_sampled_where_its_examples_lie_in_the_scale_of_the_data(model):
    for label in (0, 1, 2):
        mean = sampled(model, label).mean(dim=0)
        assert mean[0].item() == pytest.approx(100 + 10 * label, abs=3)
        assert mean[1:].tolist() == pytest.approx([100] * 3, abs=2)


def test_examples_are_reconstructed_without_their_labels(model):
    data = clusters([2, 0], n=20)
    again = model.reconstruct(data.x)
    assert again.shape == data.x.shape and again.dtype == data.x.dtype
    assert (again - data.x)[:, 0].abs().mean() < 3


def test_it_goes_on_from_a_model_of_fewer_classes(model):
    grown = fit(MAKER, clusters([3, 1]), start=model)
    assert grown.classes == (0, 1, 2, 3)
    assert sampled(grown, 3)[:, 0].mean() == pytest.approx(130, abs=5)
    landmarks = [each.network.landmarks for each in (model, grown)]
    assert torch.equal(landmarks[1][:3], landmarks[0]), "what classes are found by never moves"
    assert torch.equal(grown.places.mean[0], model.places.mean[0]) and not model.places.mean[0].equal(
        grown.places.mean[1]
    )


def test_without_places_a_class_is_all_that_was_learned():
    model = fit(replace(MAKER, conditional=False), clusters([0, 1, 2]))
    assert not len(model.network.landmarks)
    assert torch.equal(sampled(model, 0), sampled(model, 2))


def test_its_tensors_are_all_of_it(model):
    again = MAKER.load(model.tensors(), model.about())
    assert again.expert((1, 0)).digest == model.expert((1, 0)).digest
    assert torch.allclose(again.reconstruct(clusters([1]).x), model.reconstruct(clusters([1]).x))


def test_images_keep_their_dtype_and_the_published_recipe_learns_them_too():
    x = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    x[:32, :, 2], x[32:, :, 5] = 255, 255
    data = TaskData(x, torch.arange(64) // 32, ("a", "b"))
    maker = VaeMaker(IMAGE, replace(VAE_PAPER, batch=32), "dense", 4, 4, encoder=32)
    model = fit(maker, data, steps=150)
    again = model.reconstruct(x)
    assert again.dtype == torch.uint8 and (again.int() - x.int()).abs().float().mean() < 40
    samples = model.expert(("b",)).generate(torch.randn(50, 4), torch.zeros(50, dtype=torch.long))
    assert samples[:, 0, 5].mean() > samples[:, 0, 2].mean() + 1


def test_a_loss_that_is_no_number_fails_the_training():
    with pytest.raises(TrainingDiverged, match="reconstruction_error became"):
        fit(replace(MAKER, recipe=replace(VAE, lr=1e20)), clusters([0]), steps=40)
