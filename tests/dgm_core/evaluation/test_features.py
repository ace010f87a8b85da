import pytest
import torch

from dgm_core.evaluation.features import FeatureNetwork, train_features
from dgm_core.training.batches import to_range


def stripes(n=200, channels=1, side=12, seed=0):
    """Rows or columns in noise: uint8 images of two classes."""
    source = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.randint(0, 120, (n, channels, side, side), generator=source, dtype=torch.uint8)
    x[y == 0, :, side // 2] = 255
    x[y == 1, :, :, side // 2] = 255
    return x, y


def test_training_tells_real_images_apart_and_takes_penultimate_activations():
    x, y = stripes()
    network = train_features(x, y, classes=2, seed=0, steps=40, width=4)
    features = network.features(x, batch=64)
    assert features.shape == (200, 16)
    assert (network(to_range(x)).argmax(dim=1) == y).float().mean() > 0.95
    torch.testing.assert_close(network.out(features.clone()), network(to_range(x)))


def test_the_same_seed_gives_the_same_features_and_another_gives_others():
    x, y = stripes()
    first, again, other = (train_features(x, y, 2, seed, steps=5, width=4).features(x) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_leaves_the_random_state_of_its_caller_alone():
    x, y = stripes()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train_features(x, y, 2, seed=0, steps=2, width=4)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (1, 28)])
def test_a_stored_network_gives_the_same_features(channels, side):
    network = FeatureNetwork(channels, classes=3, width=4).eval()
    x = torch.randint(0, 256, (7, channels, side, side), dtype=torch.uint8)
    assert torch.equal(FeatureNetwork.unpack(network.pack()).features(x), network.features(x))


def test_features_do_not_depend_on_the_other_images_of_a_batch():
    network = FeatureNetwork(1, classes=3, width=4).eval()
    x = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(network.features(x, batch=2), network.features(x))
