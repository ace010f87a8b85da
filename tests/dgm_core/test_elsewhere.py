"""What trains and samples keeps to its device and does not wait for it: shown on one that computes nothing."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.dgm_core import elsewhere

GREY, COLOUR, VECTOR = (1, 28, 28), (3, 32, 32), (8,)
TRAININGS = [
    ("dgmw", {"network": "dcgan"}, GREY),
    ("dgmw", {"network": "residual"}, COLOUR),
    ("dgmw", {}, VECTOR),
    ("dgma", {}, GREY),
    ("dgma", {"recipe": "paper"}, GREY),
    ("gan_memory", {}, COLOUR),
    ("gan_memory", {"styles": "shared"}, GREY),
    ("mergan", {}, GREY),
    ("dgr", {}, GREY),
    ("dual", {}, GREY),
    ("dual", {"recipe": "paper"}, VECTOR),
]
FEW, MORE = 8, 13


@pytest.fixture(scope="module")
def there():
    """Calls a function of `elsewhere` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield lambda function, *arguments: process.submit(elsewhere.told, function, *arguments).result(timeout=300)


@pytest.mark.parametrize(("kind", "options", "shape"), TRAININGS, ids=str)
def test_more_steps_wait_no_oftener_for_the_device(kind, options, shape, there):
    few, more = (there(elsewhere.waits_of_training, kind, options, shape, steps) for steps in (FEW, MORE))
    assert few == more


@pytest.mark.parametrize("shape", [GREY, COLOUR, VECTOR], ids=str)
def test_more_steps_of_a_classifier_wait_no_oftener_either(shape, there):
    assert there(elsewhere.waits_of_a_classifier, shape, 4) == there(elsewhere.waits_of_a_classifier, shape, 9)


@pytest.mark.parametrize(
    ("network", "shape"), [("dcgan", GREY), ("residual", COLOUR), ("gpgan", COLOUR), ("auto", VECTOR)]
)
def test_samples_are_made_and_formed_where_their_expert_is(network, shape, there):
    there(elsewhere.sampled, network, shape)


def test_this_device_notices_what_it_is_for(there):
    assert there(elsewhere.read_in_a_step) == 1
    with pytest.raises(RuntimeError, match="found at least two devices"):
        there(elsewhere.mixed_devices)
    with pytest.raises(RuntimeError, match="device type for generator"):
        there(elsewhere.randomness_from_the_processor)
