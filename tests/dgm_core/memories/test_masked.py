"""What masks promise of a whole memory, beyond the contract of all kinds."""

from dataclasses import replace

import pytest
import torch

from dgm_core.blobs import digest, pack, unpack
from dgm_core.checkpoints import NONE
from dgm_core.memories import load_memory
from dgm_core.memory import Terms
from dgm_core.training.clock import Clock
from tests.contract.test_memory_kinds import CPU, IMAGE, SHORT, VECTOR, Variant, examples, learn

pytestmark = pytest.mark.usefixtures("small_batches")

masked_kinds = pytest.mark.parametrize("kind", ["dgmw", "dgma"])


@masked_kinds
@pytest.mark.parametrize(("spec", "network"), [(IMAGE, "auto"), (IMAGE, "residual"), (VECTOR, "auto")])
def test_nothing_that_is_stored_of_a_later_task_hangs_on_what_an_erasable_one_learned(kind, spec, network):
    """Its masks and growth may be seen, not its weights: not in weights, nor in the statistics of norms."""
    options = {"width": "2" if network == "residual" else "4", "network": network}
    manifest, blobs = Variant(kind, options).empty(spec)
    manifest, blobs = learn(manifest, blobs, examples(spec, [0]), "secret", replace(SHORT, erasable=True))
    (secret,) = manifest.tasks
    tensors, about = unpack(blobs[secret.blob])
    other = pack({name: t * 2 if name.startswith("values/") else t for name, t in tensors.items()}, about)
    assert other != blobs[secret.blob]
    made = []
    for blob in (blobs[secret.blob], other):
        task = replace(secret, blob=digest(blob))
        memory = load_memory(replace(manifest, tasks=(task,)), {task.blob: blob})
        torch.manual_seed(0)
        clock = Clock(lambda progress: None)
        made.append(memory.trained(examples(spec, [1]), "t1", Terms(), 40, clock, CPU, NONE)[0])
    ours, theirs = (unpack(blob)[0] for blob in made)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
