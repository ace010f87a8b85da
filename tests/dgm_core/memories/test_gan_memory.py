"""What a GAN memory stores of a task, by its options."""

import pytest
import torch

from dgm_core.blobs import unpack
from dgm_core.errors import CannotLearn
from dgm_core.memories import load_memory, new_manifest
from dgm_core.memories.gan_memory import MOST_TRUNCATION
from dgm_core.memory import TaskData, Terms
from tests.dgm_core.bases import IMAGE, tiny_bases

pytestmark = pytest.mark.usefixtures("small_batches")


def vectors(**options):
    """How many singular vectors a task stores, and of how many."""
    base = tiny_bases().all[0]
    memory = load_memory(new_manifest("gan_memory", options, IMAGE, 0, bases=tiny_bases()), {base.digest: base.blob})
    x = torch.randint(0, 256, (40, *IMAGE.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    learned = memory.learn(
        TaskData(x, torch.arange(40) % 2, (0, 1)),
        task="t0",
        terms=Terms(steps=12),
        report=lambda progress: None,
        device=torch.device("cpu"),
    )
    blob = next(blob for blob in learned.blobs.values() if unpack(blob)[1].get("task") == "t0")
    tensors, _ = unpack(blob)
    ranks = [t.shape[1] for name, t in tensors.items() if name.endswith("/left")]
    sites = memory.foundation.sites
    most = [min(memory.foundation.style[f"scale/{site.path}"].shape[:2]) for site in sites if site.kernels]
    return sum(ranks), 2 * sum(most)


@pytest.mark.parametrize("styles", ["lowrank", "shared"])
def test_the_less_is_truncated_the_more_vectors_are_stored(styles):
    stored = [vectors(styles=styles, truncation=text)[0] for text in ("0", "0.25", "1.0", str(MOST_TRUNCATION))]
    assert stored == sorted(stored, reverse=True) and len(set(stored)) > 2
    assert stored[0] == vectors(styles=styles, truncation="0")[1], "all that there are"
    assert vectors(styles=styles)[0] == stored[2], "as published, unless told otherwise"


@pytest.mark.parametrize("text", [str(MOST_TRUNCATION + 1), "4.01", "-1", "half"])
def test_how_much_is_truncated_has_its_bounds(text):
    with pytest.raises(CannotLearn) as refused:
        new_manifest("gan_memory", {"truncation": text}, IMAGE, 0, bases=tiny_bases())
    assert refused.value.field == "options.truncation"
