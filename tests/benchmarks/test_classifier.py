import dataclasses

import pytest
import torch
from harness.classifier import NETWORKS, SETTINGS, accuracy, augmented, train

from dgm_core.training.batches import BalancedBatches

QUIET = dataclasses.replace(SETTINGS["mnist"], blur=0.0, contrast=0.0, noise=0.0)
CPU = torch.device("cpu")


def stripes(n=200, seed=0):
    """Rows or columns in noise: uint8 images of two classes."""
    x = torch.randint(0, 120, (n, 1, 12, 12), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    y = torch.arange(n) % 2
    x[y == 0, :, 6] = 255
    x[y == 1, :, :, 6] = 255
    return x, y


def endless(x, y):
    batches = BalancedBatches(x, y, 2)
    while True:
        yield batches.draw(32)


def trained(steps, seed=0):
    setting = dataclasses.replace(SETTINGS["mnist"], steps=steps)
    return train(endless(*stripes()), 1, 2, setting, seed, CPU)


def test_the_classifier_learns_from_any_stream_of_batches():
    assert accuracy(trained(40), *stripes(seed=1)) > 0.95


def test_the_same_seed_trains_the_same_classifier_and_leaves_the_callers_random_state_alone():
    torch.manual_seed(5)
    first = trained(3).state_dict()
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert all(torch.equal(tensor, first[name]) for name, tensor in trained(3).state_dict().items())


@pytest.mark.parametrize("dataset", SETTINGS)
def test_augmentation_keeps_shape_and_class_and_changes_each_image_in_its_own_way(dataset):
    x = torch.linspace(-1, 1, 8 * 8).reshape(1, 1, 8, 8).expand(50, 3, 8, 8)
    seen = augmented(x, SETTINGS[dataset])
    assert seen.shape == x.shape
    assert not torch.equal(seen[0], seen[1])
    assert (seen - x).abs().max() < 2.5


def test_a_shift_repeats_the_border_and_brings_in_nothing_else():
    x = torch.arange(36.0).reshape(1, 1, 6, 6).expand(300, 1, 6, 6)
    seen = {tuple(image.flatten().tolist()) for image in augmented(x, QUIET)}
    assert len(seen) == 25  # two pixels at most, either way
    assert all(set(image) <= set(range(36)) for image in seen)
    assert tuple(range(36)) in seen


@pytest.mark.parametrize(
    ("setting", "shape"),
    [("digits", (1, 8, 8)), ("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32)), ("cifar10-small", (3, 32, 32))],
)
def test_the_networks_take_the_images_of_their_data_sets(setting, shape):
    network = NETWORKS[SETTINGS[setting].network](shape[0], 10)
    assert network.eval()(torch.zeros(2, *shape)).shape == (2, 10)
