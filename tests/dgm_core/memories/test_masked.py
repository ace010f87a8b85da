"""What masks promise of a whole memory, beyond the contract of all kinds."""

from dataclasses import replace
from math import prod

import pytest
import torch

from dgm_core.blobs import digest, pack, unpack
from dgm_core.checkpoints import NONE
from dgm_core.manifest import DataSpec
from dgm_core.memories import load_memory
from dgm_core.memory import Terms
from dgm_core.networks import ARCHITECTURES
from dgm_core.training.clock import Clock
from tests.contract.test_memory_kinds import (
    CPU,
    IMAGE,
    RESIDUAL,
    SHORT,
    SMALL,
    VECTOR,
    Variant,
    bytes_of,
    examples,
    learn,
)

pytestmark = pytest.mark.usefixtures("small_batches")

masked_kinds = pytest.mark.parametrize("kind", ["dgmw", "dgma"])


@masked_kinds
@pytest.mark.parametrize(
    ("spec", "options"), [(IMAGE, SMALL), pytest.param(IMAGE, RESIDUAL, marks=pytest.mark.slow), (VECTOR, SMALL)]
)
def test_nothing_that_is_stored_of_a_later_task_hangs_on_what_an_erasable_one_learned(kind, spec, options):
    """Its masks and growth may be seen, not its weights: not in weights, nor in the statistics of norms."""
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


@masked_kinds
@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=() if name == "residual" else pytest.mark.slow) for name in ARCHITECTURES],
)
def test_any_network_offers_every_task_the_same_free_capacity_and_leaves_the_bytes_of_earlier_ones(kind, network):
    spec = DataSpec((3, 9, 8), "uint8")
    manifest, blobs = Variant(kind, {"width": "1", "network": network}).empty(spec)
    memory, first = load_memory(manifest, blobs), {}
    capacity = {name: prod(shape) for name, shape in memory.gating.shapes(memory.initial).items()}
    for index in range(3):
        manifest, blobs = learn(manifest, blobs, examples(spec, [index]), f"t{index}")
        layers = manifest.tasks[-1].analysis["layers"]
        assert all(layers[name]["reserved"] + layers[name]["free"] >= size for name, size in capacity.items())
        for task in manifest.tasks:
            now = bytes_of(manifest, blobs, task.task)
            assert first.setdefault(task.task, now) == now
    assert load_memory(manifest, blobs).grown().parameters > memory.initial.parameters


@masked_kinds
def test_what_the_analysis_says_of_a_task_is_what_its_file_holds(kind):
    manifest, blobs = Variant(kind, SMALL).empty()
    for index in range(2):
        manifest, blobs = learn(manifest, blobs, examples(IMAGE, [index]), f"t{index}")
    memory = load_memory(manifest, blobs)
    for index, task in enumerate(manifest.tasks):
        tensors, _ = unpack(blobs[task.blob])
        values = {name.removeprefix("values/"): t.numel() for name, t in tensors.items() if name.startswith("values/")}
        usage, sizes = task.analysis["layers"], task.analysis["bytes"]
        topology = memory.topologies[index]
        assert task.analysis["parameters"] == topology.parameters
        assert sizes["weights"] == 4 * sum(values.values())
        assert sizes["masks"] == sum(-(-layer["size"] // 8) for layer in usage.values())
        assert sum(sizes.values()) == len(blobs[task.blob])
        if kind == "dgmw":
            assert values == {name: layer["reserved"] for name, layer in usage.items()}
        else:
            assert [layer["size"] for layer in usage.values()] == list(topology.widths)
